"""What small judges are asked, and the tables of it (benchmarks/judges.py).

A frame has the held-out pairs of one judge: clip_a, clip_b, prompt, dimension, verdict, and the
judge's margin of A over B; frames are by (setting, seed).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidpref.evaluation.intervals import clustered_rate, clustered_spread
from vidpref.evaluation.tables import Estimate, Table
from vidpref.evaluation.verdicts import Kind, Measured, verdicts


@dataclasses.dataclass(frozen=True)
class JudgeGroup:
    """Judges that are asked about the same pairs, and what is claimed of them.

    Attributes:
        config: whose judge each is, with one thing changed.
        settings: name -> what is changed.
        claims: text, setting, against which, in which dimension (None: the mean of all), kind.
        ties: settings whose ties are shown (VideoAlign Fig. 3).
        stages: setting -> the stage that makes it, where it is not the last of its config.
    """

    config: str
    settings: Mapping[str, tuple[str, ...]]
    claims: tuple[tuple[str, str, str, str | None, Kind], ...]
    ties: tuple[str, ...] = ()
    stages: Mapping[str, str] = dataclasses.field(default_factory=dict)


_FEW = ("judge.world.prompts=50",)
SCORES = JudgeGroup(
    "videoreward:mini",
    {
        "BTT": (),
        "BT": ("judge.loss=bt",),
        "regression": ("judge.loss=regression",),
        "BTT, 50 prompts": _FEW,
        "BT, 50 prompts": ("judge.loss=bt", *_FEW),
        "regression, 50 prompts": ("judge.loss=regression", *_FEW),
        "one token for all": ("judge.token=shared", "judge.template=mini_shared.txt"),
        "10 % wrong": ("judge.world.wrong=0.1",),
        "30 % wrong": ("judge.world.wrong=0.3",),
    },
    (
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
    ),
    ties=("BTT", "BT", "regression"),
)

HALF_WIDTH = ("judge.scratch.width=32", "judge.scratch.vision_width=32")
# As mcsc:mini's: sight, then grades with reasons, of one clip each, then GRPO on answers that it
# draws.
_REASONS = "judge.critic.reasons"
_REASONED = (
    *("reward.vlm_judge.answers=reasoned", "reward.vlm_judge.max_tokens=80"),
    *("reward.vlm_judge.weighed=True", "judge.critic.pairs=0"),
    *(f"{_REASONS}.steps=600", f"{_REASONS}.batch_size=16"),
    *(f"{_REASONS}.optimizer.learning_rate=1e-3", f"{_REASONS}.optimizer.b2=0.95"),
)


def _drawn(phase: str) -> tuple[str, ...]:
    train = f"judge.{phase}.train"
    return (
        *(f"judge.{phase}.enabled=True", f"judge.{phase}.kl=0.07"),
        *(f"{train}.steps=60", f"{train}.batch_size=16", f"{train}.optimizer.name=adamw"),
        *(f"{train}.optimizer.decay=linear", f"{train}.optimizer.warmup_steps=0"),
        f"{train}.optimizer.learning_rate=1e-4",
    )


_SCDR, _HCR = _drawn("reasoning"), _drawn("hierarchy")
_LARGER = (
    "A larger critic is right more often (IPO Table 6: 81.3 against 78.4 % of pairs)",
    *("critic", "critic of half the width", None, Kind.SUPERIOR),
)
_REASONING = (
    (
        "Reasons help (McSc Table 1: 77.7 against 82.7 % of pairs, without ties)",
        *("with reasons, ScDR and HCR", "critic", None, Kind.SUPERIOR),
    ),
    (
        "ScDR helps (McSc Table 1: 80.8 to 82.7 %)",
        *("with reasons, ScDR and HCR", "with reasons, HCR", None, Kind.SUPERIOR),
    ),
    (
        "HCR helps (McSc Table 1: 79.2 to 82.7 %)",
        *("with reasons, ScDR and HCR", "with reasons, ScDR", None, Kind.SUPERIOR),
    ),
    (
        "ScDR improves what instruction has taught",
        *("with reasons, ScDR", "with reasons", None, Kind.SUPERIOR),
    ),
)
WORDS = JudgeGroup(
    "critic:mini",
    {
        "critic": (),
        "critic of half the width": HALF_WIDTH,
        "grades alone": ("judge.critic.ranking=0",),
        "with reasons": _REASONED,
        "with reasons, ScDR": (*_REASONED, *_SCDR),
        "with reasons, HCR": (*_REASONED, *_HCR),
        "with reasons, ScDR and HCR": (*_REASONED, *_SCDR, *_HCR),
    },
    (
        _LARGER,
        ("The order of clips helps a critic", "critic", "grades alone", None, Kind.SUPERIOR),
        *_REASONING,
    ),
)
# Those that two papers train, of clips that a generator drew.
IPO = JudgeGroup("ipo:mini", {"critic": (), "critic of half the width": HALF_WIDTH}, (_LARGER,))
MCSC = JudgeGroup(
    "mcsc:mini",
    {
        "critic": (),
        "with reasons": (),
        "with reasons, ScDR": (),
        "with reasons, HCR": ("judge.reasoning.enabled=False",),
        "with reasons, ScDR and HCR": (),
    },
    _REASONING,
    stages={
        "critic": "judge",
        "with reasons": "judge-reasons",
        "with reasons, ScDR": "judge-reasoning",
    },
)
GROUPS = {"scores": SCORES, "words": WORDS, "ipo": IPO, "mcsc": MCSC}
DIMENSIONS = ("visual_quality", "motion_quality", "text_alignment")
SMALLEST = 0.03
Frames = Mapping[tuple[str, int], pd.DataFrame]


def _right(frame: pd.DataFrame) -> pd.DataFrame:
    """The pairs with a winner, and whether each is ordered right; equal scores are half right, and
    so are those of an answer that cannot be read."""
    decided = frame[frame["verdict"].isin(["A", "B"])].reset_index(drop=True)
    sign = np.where(decided["verdict"] == "A", 1.0, -1.0)
    return decided.assign(right=0.5 + 0.5 * np.sign(sign * decided["margin"].fillna(0.0)))


def _over_seeds(frames: Frames, seeds: Sequence[int], name: str) -> pd.DataFrame:
    found = [_right(frames[name, seed]).assign(seed=seed) for seed in seeds]
    return pd.concat(found, ignore_index=True)


def _clusters(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return pd.factorize(frame["prompt"])[0], frame["seed"].to_numpy()


def accuracy_table(group: JudgeGroup, frames: Frames, seeds: Sequence[int]) -> Table:
    rows = []
    for name in group.settings:
        every, cells = _over_seeds(frames, seeds, name), []
        for dimension in DIMENSIONS:
            own = every[every["dimension"] == dimension]
            rate = clustered_rate(own["right"].to_numpy(), *_clusters(own))
            cells.append(Estimate(rate.mean, rate.low, rate.high))
        rows.append([name, len(seeds), *cells])
    titles = [name.replace("_", " ").capitalize() for name in DIMENSIONS]
    return Table("Pairs with a winner that are ordered right, %", ["Judge", "Seeds", *titles], rows)


def tie_table(group: JudgeGroup, frames: Frames, seeds: Sequence[int]) -> Table:
    """How far apart a judge scores ties, and pairs with a winner, in deviations of its margins."""
    rows = []
    for name in group.ties:
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


def comparison_table(
    group: JudgeGroup, compared: Mapping[tuple[str, int], Mapping[str, Any]], seeds: Sequence[int]
) -> Table:
    """Returns how judges compare two clips as a whole, each pair in both orders; a value a seed."""
    rows = []
    for name in group.settings:
        found = [compared[name, seed] for seed in seeds if (name, seed) in compared]
        if not found:
            continue
        cells = [
            ", ".join("-" if one[key] is None else f"{100 * one[key]:.1f}" for one in found)
            for key in ("right", "position_bias", "unclear")
        ]
        rows.append([name, found[0]["pairs"], *cells])
    columns = ["Judge", "Pairs", "right, %", "the same place in both orders, %", "unclear, %"]
    return Table("The better of two clips (McSc 4.2)", columns, rows)


def verdict_table(group: JudgeGroup, frames: Frames, seeds: Sequence[int]) -> Table:
    measured = []
    for _, one, other, dimension, _ in group.claims:
        ours, theirs = (_over_seeds(frames, seeds, name) for name in (one, other))
        keys = ["seed", "clip_a", "clip_b", "dimension"]
        if not ours[keys].equals(theirs[keys]):
            raise ValueError(f"{one} and {other} were not asked about the same pairs")
        chosen = ours["dimension"] == dimension if dimension else np.full(len(ours), True)
        values = (ours["right"] - theirs["right"]).to_numpy()[chosen]
        spread = clustered_spread(values, *_clusters(ours[chosen]))
        measured.append(Measured(float(values.mean()), spread, SMALLEST))
    said = verdicts([kind for *_, kind in group.claims], measured)
    rows = []
    for (text, *_, kind), found, verdict in zip(group.claims, measured, said, strict=True):
        points = Estimate(found.mean, *found.ends(), signed=True)
        rows.append([text, kind.value, points, len(seeds), str(verdict)])
    columns = ["Claim", "Kind", "Points of pairs", "Seeds", "Verdict"]
    return Table("Verdicts on judges", columns, rows)
