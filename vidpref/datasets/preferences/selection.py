"""What to train on, from `Preferences`: pairs, good and bad clips, winners with several losers.

Verdicts count +1 for A, -1 for B and 0 for a tie; their sum over the dimensions, each times its
weight, is the margin of a pair: it prefers the clip with the larger sum. With three dimensions of
one weight, B, B, A prefers B by a third of what B, B, B does, and A, B, tie is a tie. Where several
judges spoke about a dimension, their mean counts; where one said A and another B, the pair gives
nothing. Results depend neither on the order of rows nor on which clip of a pair is A.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from vidpref.datasets.preferences.frames import Preferences

MOTION = ("object_motion", "camera_motion")
_PAIR = ["prompt", "first", "second"]
_ROUNDING = 1e-9  # of the sum of the weights: a smaller margin is a tie
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class PreferenceReport:
    """How many pairs of clips gave a preference, and why the others did not.

    Attributes:
        compared: pairs of clips with any verdict.
        chosen: pairs with a winner.
        ties: weighted verdicts that sum to zero.
        conflicting: one judge said A and another B in a weighted dimension.
        invalid: every verdict in the weighted dimensions is "invalid".
        unlabelled: no verdict in the weighted dimensions.
        repeated: verdicts that stand more than once (counted once each), in any dimension.
        mixed: of `chosen`, those whose loser won a weighted dimension.
    """

    compared: int
    chosen: int
    ties: int
    conflicting: int
    invalid: int
    unlabelled: int
    repeated: int
    mixed: int

    def __str__(self) -> str:
        return (
            f"{self.compared} pairs of train prompts compared: {self.chosen} have a winner "
            f"({self.mixed} of them against a dimension), {self.ties} are ties, "
            f"{self.conflicting} have judges who disagree, {self.invalid} are invalid, "
            f"{self.unlabelled} have no verdict that counts"
        )


@dataclasses.dataclass(frozen=True)
class ClipReport:
    """How many clips are good or bad, and why the others are neither.

    Attributes:
        clips: all.
        positive: reward 1.
        negative: reward 0.
        even: as many wins as losses, or a score of zero.
        conflicting: its only comparisons are conflicting (see `PreferenceReport`).
        invalid: its only comparisons are invalid.
        unlabelled: no comparison, or no score, in the weighted dimensions.
    """

    clips: int
    positive: int
    negative: int
    even: int
    conflicting: int
    invalid: int
    unlabelled: int

    def __str__(self) -> str:
        return (
            f"{self.clips} clips of train prompts: {self.positive} are good, {self.negative} bad; "
            f"neither: {self.even} even, {self.conflicting} with judges who disagree, "
            f"{self.invalid} invalid, {self.unlabelled} without a verdict or score that counts"
        )


@dataclasses.dataclass(frozen=True)
class LoserReport:
    """How many winners have enough losers.

    Attributes:
        pairs: where winners and losers come from.
        winners: clips that won any pair.
        rows: winners with enough losers.
        too_few: the other winners, by id.
        unused: losers beyond the number asked for.
    """

    pairs: PreferenceReport
    winners: int
    rows: int
    too_few: tuple[str, ...]
    unused: int

    def __str__(self) -> str:
        return (
            f"{self.pairs}; {self.rows} of {self.winners} winners have losers enough, "
            f"{self.unused} losers are more than wanted"
        )


def preferred_pairs(
    preferences: Preferences, weights: Mapping[str, float | int]
) -> tuple[pd.DataFrame, PreferenceReport]:
    """Returns the pairs with a winner: prompt, winner, loser (ids) and margin (> 0).

    Args:
        preferences: preferences of any layout.
        weights: weights of the dimensions that count, e.g. {"visual_quality": 1.0}.

    Raises:
        ValueError: a dimension without verdicts, or no weight other than zero.
    """
    margins, repeated = _margins(preferences.comparisons, weights)
    chosen = margins[margins["outcome"] == "chosen"]
    first_won = chosen["margin"] > 0
    pairs = pd.DataFrame(
        {
            "prompt": chosen["prompt"],
            "winner": chosen["first"].where(first_won, chosen["second"]),
            "loser": chosen["second"].where(first_won, chosen["first"]),
            "margin": chosen["margin"].abs(),
        }
    ).sort_values(["prompt", "winner", "loser"], ignore_index=True)
    counts = margins["outcome"].value_counts()
    reasons = ("chosen", "ties", "conflicting", "invalid", "unlabelled")
    return pairs, PreferenceReport(
        compared=len(margins),
        repeated=repeated,
        mixed=int(chosen["mixed"].sum()),
        **{reason: int(counts.get(reason, 0)) for reason in reasons},
    )


def labelled_clips(
    preferences: Preferences, weights: Mapping[str, float | int]
) -> tuple[pd.DataFrame, ClipReport]:
    """Returns good and bad clips for KTO: prompt, clip (id) and reward, 1.0 or 0.0.

    A clip that won more pairs than it lost is good, one that lost more is bad. Where the data set
    has scores and no comparison, the sign of the weighted sum of its scores decides instead: such
    scores must have their zero between good and bad. A clip needs all weighted scores.

    Args:
        preferences: preferences of any layout.
        weights: weights of the dimensions that count.

    Raises:
        ValueError: a dimension without verdicts (scores), or no weight other than zero.
    """
    clips = preferences.clips.set_index("id").sort_index()
    if preferences.comparisons.empty:
        value, outcome = _scored(preferences.scores, clips.index, weights)
    else:
        value, outcome = _won(_margins(preferences.comparisons, weights)[0], clips.index)
    outcome = outcome.mask(value > 0, "positive").mask(value < 0, "negative")
    kept = outcome.isin(("positive", "negative"))
    labelled = pd.DataFrame(
        {
            "prompt": clips["prompt"][kept],
            "clip": clips.index[kept],
            "reward": (outcome[kept] == "positive").astype("float64"),
        }
    ).sort_values(["prompt", "clip"], ignore_index=True)
    counts = outcome.value_counts()
    reasons = [field.name for field in dataclasses.fields(ClipReport) if field.name != "clips"]
    return labelled, ClipReport(
        clips=len(clips), **{reason: int(counts.get(reason, 0)) for reason in reasons}
    )


def winners_and_losers(
    preferences: Preferences, weights: Mapping[str, float | int], losers: int
) -> tuple[pd.DataFrame, LoserReport]:
    """Returns prompt, winner and loser_0 ... (ids), for RealDPO and other losses over losers.

    Of more losers than asked for, those with the smallest ids are taken.

    Args:
        preferences: preferences of any layout.
        weights: weights of the dimensions that count.
        losers: number of losers of every winner.

    Raises:
        ValueError: `losers` below 1, and as `preferred_pairs`.
    """
    if losers < 1:
        raise ValueError(f"losers={losers} must be at least 1")
    pairs, report = preferred_pairs(preferences, weights)
    rows, too_few, unused = [], [], 0
    for (prompt, winner), group in pairs.groupby(["prompt", "winner"], sort=True):
        if len(group) < losers:
            too_few.append(winner)
            continue
        unused += len(group) - losers
        rows.append((prompt, winner, *group["loser"].iloc[:losers]))
    columns = ["prompt", "winner", *(f"loser_{i}" for i in range(losers))]
    return pd.DataFrame(rows, columns=columns), LoserReport(
        pairs=report,
        winners=len(rows) + len(too_few),
        rows=len(rows),
        too_few=tuple(too_few),
        unused=unused,
    )


def motion_of(preferences: Preferences) -> pd.DataFrame:
    """Returns object_motion and camera_motion of every clip, by clip id; the mean over judges.

    Raises:
        ValueError: clips without one of these scores; names the first.
    """
    scores = preferences.scores[preferences.scores["dimension"].isin(MOTION)]
    motion = _by_dimension(scores.rename(columns={"score": "value"}), "clip", MOTION)
    motion = motion.reindex(preferences.clips["id"].rename("clip"))
    without = motion.index[motion.isna().any(axis=1)]
    if len(without):
        raise ValueError(
            f"{len(without)} of {len(motion)} clips have no score for {' or '.join(MOTION)}, the "
            f"first are {', '.join(without[:_NAMED])}: add scores_a and scores_b to the data set"
        )
    return motion


def _margins(
    comparisons: pd.DataFrame, weights: Mapping[str, float | int]
) -> tuple[pd.DataFrame, int]:
    """A row a pair: prompt, first < second, margin for first, outcome, mixed; and repetitions."""
    weights = _checked(weights, comparisons["dimension"].unique(), "verdict")
    swapped = comparisons["clip_a"] > comparisons["clip_b"]
    value = comparisons["verdict"].map({"A": 1.0, "B": -1.0, "tie": 0.0})  # invalid: NaN
    table = pd.DataFrame(
        {
            "prompt": comparisons["prompt"],
            "first": comparisons["clip_b"].where(swapped, comparisons["clip_a"]),
            "second": comparisons["clip_a"].where(swapped, comparisons["clip_b"]),
            "dimension": comparisons["dimension"],
            "judge": comparisons["judge"],
            "value": value.where(~swapped, -value),
        }
    )
    repeated = int(table.duplicated().sum())
    table = table.drop_duplicates()

    pairs = pd.MultiIndex.from_frame(table[_PAIR].drop_duplicates()).sort_values()
    asked = table[table["dimension"].isin(weights.index)]
    valid = asked.dropna(subset="value")
    extremes = valid.groupby([*_PAIR, "dimension"])["value"].agg(["min", "max"])
    disputed = extremes[(extremes["min"] < 0) & (extremes["max"] > 0)].droplevel("dimension").index
    verdicts = _by_dimension(valid, _PAIR, weights.index).fillna(0.0)
    margin = (verdicts @ weights).reindex(pairs)
    won = verdicts * weights
    mixed = ((won > 0).any(axis=1) & (won < 0).any(axis=1)).reindex(pairs, fill_value=False)

    outcome = pd.Series("chosen", index=pairs)
    outcome[margin.abs() <= _ROUNDING * weights.abs().sum()] = "ties"
    outcome[pairs.isin(disputed)] = "conflicting"
    outcome[margin.isna()] = "invalid"
    outcome[~pairs.isin(pd.MultiIndex.from_frame(asked[_PAIR]))] = "unlabelled"
    found = pd.DataFrame({"margin": margin, "outcome": outcome, "mixed": mixed})
    return found.reset_index(), repeated


def _won(margins: pd.DataFrame, clips: pd.Index) -> tuple[pd.Series, pd.Series]:
    """Wins minus losses of each clip, and the outcome reported when wins equal losses."""
    value, outcome = pd.Series(0.0, index=clips), pd.Series("unlabelled", index=clips)
    for reason in ("invalid", "conflicting"):
        found = margins[margins["outcome"] == reason]
        outcome[clips.isin(found["first"]) | clips.isin(found["second"])] = reason
    decided = margins[margins["outcome"].isin(("chosen", "ties"))]
    sign = np.sign(decided["margin"]).where(decided["outcome"] == "chosen", 0.0)
    for side, of_side in (("first", sign), ("second", -sign)):
        total = of_side.groupby(decided[side]).sum()
        value = value.add(total, fill_value=0.0)
        outcome[clips.isin(total.index)] = "even"
    return value, outcome


def _scored(
    scores: pd.DataFrame, clips: pd.Index, weights: Mapping[str, float | int]
) -> tuple[pd.Series, pd.Series]:
    """Weighted score of each clip, and the outcome reported when that is zero."""
    weights = _checked(weights, scores["dimension"].unique(), "score")
    asked = scores[scores["dimension"].isin(weights.index)].rename(columns={"score": "value"})
    value = (_by_dimension(asked, "clip", weights.index) @ weights).reindex(clips)
    return value, pd.Series("even", index=clips).mask(value.isna(), "unlabelled")


def _by_dimension(
    table: pd.DataFrame, key: str | list[str], dimensions: Iterable[str]
) -> pd.DataFrame:
    """Mean value over judges: a row for each key, a column for each dimension."""
    keys = [key] if isinstance(key, str) else key
    means = table.groupby([*keys, "dimension"])["value"].mean().unstack("dimension")
    return means.reindex(columns=pd.Index(dimensions, name="dimension"))


def _checked(weights: Mapping[str, float | int], known: Iterable[str], what: str) -> pd.Series:
    unknown = [name for name in weights if name not in known]
    if unknown:
        raise ValueError(
            f"no clip has a {what} in the dimension {unknown[0]!r}; known: "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    kept = pd.Series({name: weight for name, weight in weights.items() if weight}, dtype="float64")
    if kept.empty or not np.isfinite(kept).all():
        raise ValueError(f"weights={dict(weights)} need a finite weight other than zero")
    return kept
