"""What small judges that score are asked, and the tables of it (benchmarks/judges.py).

A frame has the held-out pairs of one judge: clip_a, clip_b, prompt, dimension, verdict, and the
judge's margin of A over B; frames are by (setting, seed).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vidpref.evaluation.intervals import clustered_rate, clustered_spread
from vidpref.evaluation.tables import Estimate, Table
from vidpref.evaluation.verdicts import Kind, Measured, verdicts

FEW = ("judge.world.prompts=50",)
SETTINGS = {
    "BTT": (),
    "BT": ("judge.loss=bt",),
    "regression": ("judge.loss=regression",),
    "BTT, 50 prompts": FEW,
    "BT, 50 prompts": ("judge.loss=bt", *FEW),
    "regression, 50 prompts": ("judge.loss=regression", *FEW),
    "one token for all": ("judge.token=shared", "judge.template=mini_shared.txt"),
    "10 % wrong": ("judge.world.wrong=0.1",),
    "30 % wrong": ("judge.world.wrong=0.3",),
}
DIMENSIONS = ("visual_quality", "motion_quality", "text_alignment")
SMALLEST = 0.03
# what is claimed, setting, against which, in which dimension (None: the mean of all), kind
CLAIMS = (
    ("BTT beats BT", "BTT", "BT", None, Kind.SUPERIOR),
    ("BTT beats regression (VideoAlign Fig. 2)", "BTT", "regression", None, Kind.SUPERIOR),
    (
        "BTT beats regression on few prompts (VideoAlign Fig. 2: by more)",
        *("BTT, 50 prompts", "regression, 50 prompts", None, Kind.SUPERIOR),
    ),
    (
        "BTT beats BT on few prompts",
        *("BTT, 50 prompts", "BT, 50 prompts", None, Kind.SUPERIOR),
    ),
    (
        "Separate tokens are as good as one in visual quality",
        *("BTT", "one token for all", "visual_quality", Kind.NOT_INFERIOR),
    ),
    (
        "Separate tokens are as good as one in text alignment",
        *("BTT", "one token for all", "text_alignment", Kind.NOT_INFERIOR),
    ),
    ("10 % of wrong labels do not matter", "10 % wrong", "BTT", None, Kind.NOT_INFERIOR),
    ("30 % of wrong labels do not matter", "30 % wrong", "BTT", None, Kind.NOT_INFERIOR),
)


def _right(frame: pd.DataFrame) -> pd.DataFrame:
    """The pairs with a winner, and whether each is ordered right; equal scores are half right."""
    decided = frame[frame["verdict"].isin(["A", "B"])].reset_index(drop=True)
    sign = np.where(decided["verdict"] == "A", 1.0, -1.0)
    return decided.assign(right=0.5 + 0.5 * np.sign(sign * decided["margin"]))


def _over_seeds(
    frames: Mapping[tuple[str, int], pd.DataFrame], seeds: Sequence[int], name: str
) -> pd.DataFrame:
    found = [_right(frames[name, seed]).assign(seed=seed) for seed in seeds]
    return pd.concat(found, ignore_index=True)


def _clusters(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return pd.factorize(frame["prompt"])[0], frame["seed"].to_numpy()


def accuracy_table(frames: Mapping[tuple[str, int], pd.DataFrame], seeds: Sequence[int]) -> Table:
    rows = []
    for name in SETTINGS:
        every, cells = _over_seeds(frames, seeds, name), []
        for dimension in DIMENSIONS:
            own = every[every["dimension"] == dimension]
            rate = clustered_rate(own["right"].to_numpy(), *_clusters(own))
            cells.append(Estimate(rate.mean, rate.low, rate.high))
        rows.append([name, len(seeds), *cells])
    titles = [name.replace("_", " ").capitalize() for name in DIMENSIONS]
    return Table("Pairs with a winner that are ordered right, %", ["Judge", "Seeds", *titles], rows)


def tie_table(frames: Mapping[tuple[str, int], pd.DataFrame], seeds: Sequence[int]) -> Table:
    """How far apart a judge scores ties, and pairs with a winner, in deviations of its margins."""
    rows = []
    for name in ("BTT", "BT", "regression"):
        apart = {True: [], False: []}
        for seed in seeds:
            for _, own in frames[name, seed].groupby("dimension"):
                margins = own["margin"].abs() / own["margin"].std()
                tie = own["verdict"] == "tie"
                apart[True].append(margins[tie].mean())
                apart[False].append(margins[~tie].mean())
        means = {tie: float(np.nanmean(values)) for tie, values in apart.items()}
        cells = [f"{means[True]:.2f}", f"{means[False]:.2f}", f"{means[True] / means[False]:.2f}"]
        rows.append([name, *cells])
    columns = ["Loss", "ties", "pairs with a winner", "ratio"]
    return Table("Margins, in deviations (VideoAlign Fig. 3)", columns, rows)


def verdict_table(frames: Mapping[tuple[str, int], pd.DataFrame], seeds: Sequence[int]) -> Table:
    measured = []
    for _, one, other, dimension, _ in CLAIMS:
        ours, theirs = (_over_seeds(frames, seeds, name) for name in (one, other))
        keys = ["seed", "clip_a", "clip_b", "dimension"]
        if not ours[keys].equals(theirs[keys]):
            raise ValueError(f"{one} and {other} were not asked about the same pairs")
        chosen = ours["dimension"] == dimension if dimension else np.full(len(ours), True)
        values = (ours["right"] - theirs["right"]).to_numpy()[chosen]
        spread = clustered_spread(values, *_clusters(ours[chosen]))
        measured.append(Measured(float(values.mean()), spread, SMALLEST))
    said = verdicts([kind for *_, kind in CLAIMS], measured)
    rows = []
    for (text, *_, kind), found, verdict in zip(CLAIMS, measured, said, strict=True):
        points = Estimate(found.mean, *found.ends(), signed=True)
        rows.append([text, kind.value, points, len(seeds), str(verdict)])
    columns = ["Claim", "Kind", "Points of pairs", "Seeds", "Verdict"]
    return Table("Verdicts on judges", columns, rows)
