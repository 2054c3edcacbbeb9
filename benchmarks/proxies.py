"""Every proxy of the mini world against the verifier: judges and metrics, on all policies' clips.

    JAX_PLATFORMS=cpu python benchmarks/proxies.py --workdir=runs/claims --out=runs/proxies

The policies are AIF's two projections on AI feedback, CLIP and PickScore, and the generator before
them (its Table 4 and the left of Figure 7). Each judge scores the last clips of held-out prompts of
each policy. OUT/seedN gets the tables and the picture of launch/correlate.py: of the policies'
means, which tell whether a judge may compare methods, and of the clips of one prompt, which tell
whether one may learn from it; the program prints those of all seeds.

Runs that are missing are made; in the work directory of benchmarks/claims.py --only=feedback there
are all. The metrics' models are those of benchmarks/mini_clip.py. Judges of finished runs on one
generator, such as VideoAlign's, IPO's and McSc's, are compared by launch/correlate.py.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from vidpref.runs import command_line as program
from vidpref.storage.mirror import open_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder of tables and pictures.", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Training seeds.")
_CLIPS = flags.DEFINE_integer("clips_per_prompt", 8, "Clips of a prompt.", lower_bound=1)
_OF = flags.DEFINE_list("of", ["accept"], "Dimensions of the verifier.")
_METRICS = flags.DEFINE_string(
    "metrics", "docs/claims_scores/metrics", "Folder of mini_clip.py's models."
)


def main(overrides: Sequence[str]) -> None:
    workdir = open_folder(_WORKDIR.value)
    program.start_devices(workdir)
    from claimed import measuring, proxies

    from vidpref.config.by_name import apply_overrides
    from vidpref.runs import correlation_results
    from vidpref.runs.methods import open_recipe
    from vidpref.runs.rounds import say
    from vidpref.runs.workdir import locked

    chosen = proxies.FEEDBACK
    configs = measuring.load_configs(chosen.group, overrides, _CLIPS.value, Path(_METRICS.value))
    measuring.check_models({"feedback": configs})
    every = {}
    with locked(workdir):
        for seed in _SEEDS.value:
            recipes = {
                name: open_recipe(apply_overrides(config, [f"seed={seed}"]), workdir)
                for name, config in zip(chosen.group.configs, configs, strict=True)
            }
            truth, scores = proxies.measure(recipes, chosen.judges, say)
            truth = dataclasses.replace(truth, numbers=truth.numbers[_OF.value])
            found = correlation_results.correlate(truth, scores, {"split": "test"})
            every[seed] = found
            for path in correlation_results.write(Path(_OUT.value) / f"seed{seed}", found):
                print(f"written: {path}")
    print(proxies.seeds_table(every).to_markdown())


if __name__ == "__main__":
    program.launch(main)
