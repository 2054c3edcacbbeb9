"""Reward, truth and look of fresh clips over the steps of online runs, as a table and a picture.

    JAX_PLATFORMS=cpu python benchmarks/claims.py --workdir=runs/claims --only=leash
    JAX_PLATFORMS=cpu python benchmarks/drifts.py --workdir=runs/claims --out=docs

The runs are those of `benchmarks/claims.py` in the same work directory, which watched their clips
(align.online.watch): every step drew some, the judge gave them the reward and the verifier said
how many it accepts. Nothing is run. OUT gets leash.png.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from absl import app, flags
from claimed.claim import Group
from claimed.online import LEASH, LEASHES
from claimed.proxies import mean_of_seeds

from vidpref.evaluation.tables import Table
from vidpref.runs import command_line as program

_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of the runs.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder of the picture; the work directory.")
_METRICS = flags.DEFINE_string(
    "metrics", "docs/claims_scores/metrics", "Folder of mini_clip.py's models."
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Training seeds.")

COLUMNS = {
    "reward": "reward",
    "truth": "accepted by the verifier",
    "look/contrast": "contrast",
    "look/colour": "colour",
    "look/motion": "change from frame to frame",
}
_WINDOW = 10  # steps that a mean is over


def main(overrides: Sequence[str]) -> None:
    if overrides:
        raise app.UsageError(f"not understood: {' '.join(overrides)}")
    workdir, seeds = Path(_WORKDIR.value), [int(seed) for seed in _SEEDS.value]
    found = {
        name: [watched(workdir, LEASH, config, seed, Path(_METRICS.value)) for seed in seeds]
        for name, config in LEASHES.items()
    }
    print(table(found).to_markdown())
    draw(Path(_OUT.value or workdir) / "leash.png", found)


def watched(workdir: Path, group: Group, config: str, seed: int, metrics: Path) -> pd.DataFrame:
    """Returns what a run noted of its clips, a row a step, the columns `COLUMNS` in its order.

    Args:
        workdir: of the runs.
        group, config: which of them.
        seed: training seed.
        metrics: folder of the models that they learnt from.

    Raises:
        absl.app.UsageError: there is no such run.
    """
    from claimed.measuring import load_configs

    from vidpref.config.by_name import apply_overrides
    from vidpref.runs.methods import open_recipe
    from vidpref.stages.online.watching import NOTES

    own = dict(zip(group.configs, load_configs(group, (), 8, metrics), strict=True))[config]
    recipe = open_recipe(apply_overrides(own, [f"seed={seed}"]), workdir)
    *_, policy = recipe.policies(group.rounds).values()
    folder = workdir / policy.stages["policy"].folder
    if not (folder / NOTES).exists():
        raise app.UsageError(f"{folder} is not there, or was not watched: run claims.py first")
    notes, looks = (
        pd.DataFrame(map(json.loads, (folder / name).read_text().splitlines())).set_index("step")
        for name in (NOTES, "metrics.jsonl")
    )
    return notes.join(looks[[name for name in COLUMNS if name in looks]])[list(COLUMNS)]


def table(found: Mapping[str, Sequence[pd.DataFrame]]) -> Table:
    """Returns the means of the first and of the last steps, with t-intervals over seeds."""
    rows = []
    for name, runs in found.items():
        for title, column in COLUMNS.items():
            values = [run[title].dropna() for run in runs]
            before = np.array([own.loc[:_WINDOW].mean() for own in values])
            after = np.array([own.loc[own.index[-1] - _WINDOW + 1 :].mean() for own in values])
            change = mean_of_seeds(100 * (after - before), "+.1f")
            rows.append([name, column, f"{before.mean():.3f}", f"{after.mean():.3f}", change])
    columns = ["Held by", "Of fresh clips", "First steps", "Last steps", "Change, times 100"]
    return Table("Reward, truth and look", columns, rows)


def draw(path: Path, found: Mapping[str, Sequence[pd.DataFrame]]) -> None:
    """Draws reward, truth and colour over steps: a line a leash, thin ones for its seeds."""
    shown = ("reward", "truth", "look/motion")
    figure, panels = plt.subplots(1, len(shown), figsize=(12, 4), constrained_layout=True)
    for number, (name, runs) in enumerate(found.items()):
        for panel, title in zip(panels, shown, strict=True):
            lines = [run[title].dropna().rolling(_WINDOW, min_periods=1).mean() for run in runs]
            for line in lines:
                panel.plot(line.index, line, color=f"C{number}", linewidth=0.5, alpha=0.5)
            mean = pd.concat(lines, axis=1).mean(axis=1)
            panel.plot(mean.index, mean, color=f"C{number}", linewidth=2, label=name)
    for panel, title in zip(panels, shown, strict=True):
        panel.set(title=COLUMNS[title], xlabel="step")
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    program.launch(main)
