"""Reward, truth and look of clips over the steps of runs, as tables and pictures.

    JAX_PLATFORMS=cpu python benchmarks/claims.py --workdir=runs/claims --only=leash,online_proxy
    JAX_PLATFORMS=cpu python benchmarks/drifts.py --workdir=runs/claims --out=docs

The runs are those of `benchmarks/claims.py` in the same work directory; nothing is trained. Those
of `leash` watched their clips: every step drew some, the judge gave them the reward and the
verifier said how many it accepts. Those of `online_proxy` kept their checkpoints, from each of
which clips of validation prompts are drawn here. OUT gets leash.png and online_proxy.png.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line as program

_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of the runs.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder of the pictures; the work directory.")
_METRICS = flags.DEFINE_string(
    "metrics", "docs/claims_scores/metrics", "Folder of mini_clip.py's models."
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Training seeds.")
_ONLY = flags.DEFINE_list("only", ["leash", "online_proxy"], "Groups of claims.")
_PER_PROMPT = flags.DEFINE_integer("per_prompt", 2, "Of validation clips.", lower_bound=1)


def main(overrides: Sequence[str]) -> None:
    from claimed import drifting, online
    from claimed.groups import GROUPS
    from claimed.measuring import load_configs

    def asked(recipe, policy):
        return drifting.of_checkpoints(recipe, policy, _PER_PROMPT.value)

    # lines of the picture, how each is come by, and steps of a mean: a step has 64 clips, a
    # checkpoint some hundreds
    views = {
        "leash": (online.LEASHES, drifting.watched, 10),
        "online_proxy": (online.PROJECTIONS, asked, 1),
    }
    if overrides:
        raise app.UsageError(f"not understood: {' '.join(overrides)}")
    if strange := [name for name in _ONLY.value if name not in views]:
        raise app.UsageError(f"--only={strange[0]}: there are {', '.join(views)}")
    workdir, metrics = Path(_WORKDIR.value), Path(_METRICS.value)
    program.start_devices(workdir)
    for group in _ONLY.value:
        lines, look, window = views[group]
        configs = load_configs(GROUPS[group], (), 8, metrics)
        found = {name: [] for name in lines}
        for name, config in zip(lines, configs, strict=True):
            for seed in map(int, _SEEDS.value):
                try:
                    found[name].append(look(*drifting.opened(workdir, config, seed)))
                except drifting.NoRunError as error:
                    raise app.UsageError(str(error)) from error
        print(drifting.table(found, window).to_markdown(), end="\n\n", flush=True)
        drifting.draw(Path(_OUT.value or workdir) / f"{group}.png", found, window)


if __name__ == "__main__":
    program.launch(main)
