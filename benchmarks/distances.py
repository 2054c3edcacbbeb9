"""How far the clips of AIF's policies lie from true ones: its Table 3, by a small CLIP's features.

    JAX_PLATFORMS=cpu python benchmarks/distances.py --workdir=runs/claims

The policies are those of `benchmarks/claims.py --only=feedback` and its SFT, whose runs must be in
WORKDIR: where their scores are kept, --scores=NEW --metrics=docs/claims_scores/metrics makes them
run again. Their last clips of held-out prompts stand beside rendered clips of the same prompts, as
many. Published FID and FVD are of Inception's and I3D's features; here both are of the CLIP that
benchmarks/mini_clip.py trains: of single frames, and of all frames of a clip side by side. The
classes of the Inception Score are the held-out prompts, by that CLIP's probabilities. So all rank
policies of the mini world, and compare with no number elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from vidpref.runs import command_line as program
from vidpref.storage.mirror import open_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Training seeds.")
_CLIPS = flags.DEFINE_integer("clips_per_prompt", 8, "Clips of a prompt.", lower_bound=1)
_METRICS = flags.DEFINE_string(
    "metrics", "docs/claims_scores/metrics", "Folder of mini_clip.py's models."
)


def main(overrides: Sequence[str]) -> None:
    workdir, metrics = open_folder(_WORKDIR.value), Path(_METRICS.value)
    program.start_devices(workdir)
    from claimed import distances, measuring

    from vidpref.config.by_name import apply_overrides
    from vidpref.interop.clip_folders import ClipFolder
    from vidpref.runs.methods import open_recipe

    group = distances.POLICIES
    configs = measuring.load_configs(group, overrides, _CLIPS.value, metrics)
    measuring.check_models({"feedback": configs})
    model, found = distances.Reader(ClipFolder(metrics / "clip_score")), {}
    for seed in _SEEDS.value:
        recipes = {
            name: open_recipe(apply_overrides(config, [f"seed={seed}"]), workdir)
            for name, config in zip(group.configs, configs, strict=True)
        }
        found[seed] = distances.of_policies(recipes, model)
        for policy, measured in found[seed].items():
            print(f"seed {seed}, {policy}: {measured}", flush=True)
    print(distances.table(found).to_markdown())


if __name__ == "__main__":
    program.launch(main)
