"""One model against another, clip by clip of the same prompt and noise, by the scores of any judge.

Intervals are those of `intervals.py`, clustered by prompt. Scores of [0, 1] are shares; of others
nothing is known but what is seen, and the distance from the lowest to the highest of both models
takes the place of the scale's length: in the trial that is counted besides those there were, and in
the limit of a tie, `TIE` of that length.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidpref.evaluation.intervals import Interval, clustered_rate, clustered_spread
from vidpref.evaluation.statistics import TIE
from vidpref.evaluation.tables import Cell, Estimate, Table
from vidpref.typing import Float


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a judge says in one dimension of n clips of each model; equal places, equal noise.

    Attributes:
        judge, dimension: what they are called.
        share: whether scores lie in [0, 1].
        before, after: nan where there is no score.
        prompts: of each clip.
        categories: of each clip's prompt; "" where it has none.

    Raises:
        ValueError: shares out of [0, 1].
    """

    judge: str
    dimension: str
    share: bool
    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " n"]
    prompts: Sequence[str]
    categories: Sequence[str]

    def __post_init__(self):
        both = np.concatenate([self.before, self.after])
        if self.share and (np.nanmin(both, initial=0) < 0 or np.nanmax(both, initial=1) > 1):
            raise ValueError(f"{self.judge}: {self.dimension} is no share, within [0, 1]")

    @property
    def name(self) -> str:
        """Judge and dimension."""
        return f"{self.judge}: {self.dimension.replace('_', ' ')}"

    @property
    def length(self) -> float:
        """Of the scale: 1 of shares, else from the lowest score to the highest."""
        seen = np.concatenate([self.before, self.after])
        seen = seen[~np.isnan(seen)]
        return 1.0 if self.share else float(np.ptp(seen)) if len(seen) else 0.0

    @property
    def difference(self) -> Float[np.ndarray, " n"]:
        """After minus before; nan where either has no score."""
        return self.after - self.before

    @property
    def tie(self) -> float:
        """Differences below it are none."""
        return TIE * self.length

    def of(self, category: str) -> "Scores":
        """Returns the scores of one category."""
        rows = np.flatnonzero(np.array(self.categories) == category)
        return dataclasses.replace(
            self,
            before=self.before[rows],
            after=self.after[rows],
            prompts=[self.prompts[i] for i in rows],
            categories=[category] * len(rows),
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How two models compare in one dimension of a judge.

    Attributes:
        before, after: mean scores.
        difference: mean of after minus before.
        win_rate: share of clips with the higher score afterwards, ties counted as half.
        won, tied, lost: numbers of clips.
        prompts: how many they are of.
        unscored: further clips that one of the models has no score of.
    """

    before: Interval
    after: Interval
    difference: Interval
    win_rate: Interval
    won: int
    tied: int
    lost: int
    prompts: int
    unscored: int

    @property
    def clips(self) -> int:
        """Clips of each model that both have scores of."""
        return self.won + self.tied + self.lost


def compare(scores: Scores, length: float | None = None) -> Comparison | None:
    """Returns how the models compare; None where no clip of both has a score.

    Args:
        scores: of both models.
        length: of the scale, where `scores` are a part of those that it is to be taken from.
    """
    length = scores.length if length is None else length
    there = ~np.isnan(scores.difference)
    if not there.any():
        return None
    prompts = np.unique(np.array(scores.prompts)[there], return_inverse=True)[1]
    before, after = scores.before[there], scores.after[there]
    difference = after - before
    sign = np.sign(difference) * (np.abs(difference) >= TIE * length)
    verdicts = scores.share and set(np.concatenate([before, after])) <= {0.0, 1.0}
    limits = ((0.0, 1.0), (-1.0, 1.0)) if scores.share else ((-math.inf, math.inf),) * 2

    def mean(values: np.ndarray) -> Interval:
        if verdicts:
            return clustered_rate(values, prompts)
        return _mean(values, prompts, length / 2, limits[0])

    return Comparison(
        before=mean(before),
        after=mean(after),
        difference=_mean(difference, prompts, length, limits[1]),
        win_rate=clustered_rate(0.5 + 0.5 * sign, prompts),
        won=int((sign > 0).sum()),
        tied=int((sign == 0).sum()),
        lost=int((sign < 0).sum()),
        prompts=int(prompts.max()) + 1,
        unscored=int((~there).sum()),
    )


def by_category(scores: Scores) -> dict[str, Comparison]:
    """Returns the comparison within each category, in the order of the prompts."""
    names = dict.fromkeys(scores.categories)
    found = {name: compare(scores.of(name), scores.length) for name in names}
    return {name: comparison for name, comparison in found.items() if comparison is not None}


def comparison_json(scores: Scores) -> dict[str, Any]:
    """Returns all numbers of a comparison and of its categories, as plain JSON.

    An end of an interval is None where nothing bounds it, as with a single prompt.
    """
    whole = compare(scores)
    found = {"judge": scores.judge, "dimension": scores.dimension, "share": scores.share}
    if whole is None:
        return found | {"clips": 0, "unscored": len(scores.before)}
    return (
        found
        | _plain(whole)
        | {"categories": {name: _plain(part) for name, part in by_category(scores).items()}}
    )


def comparison_table(every: Sequence[Scores]) -> Table:
    """Returns a row for each judge and dimension."""
    rows = []
    for scores in every:
        named = [scores.judge, scores.dimension.replace("_", " ")]
        whole = compare(scores)
        if whole is None:
            rows.append([*named, *([None] * 4), 0, 0, 0, 0, len(scores.before)])
            continue
        percent = scores.share
        rows.append(
            [
                *named,
                Estimate(*whole.before, percent=percent),
                Estimate(*whole.after, percent=percent),
                Estimate(*whole.difference, signed=True, percent=percent),
                Estimate(*whole.win_rate),
                *(whole.won, whole.tied, whole.lost),
                whole.prompts,
                whole.unscored,
            ]
        )
    columns = ["Judge", "Dimension", "Before", "After", "Difference", "Win rate"]
    columns += ["Won", "Tied", "Lost", "Prompts", "Without a score"]
    caption = (
        "Shares and win rates in per cent, other scores as the judge gives them; differences clip "
        "by clip with equal noise; 95 % intervals over prompts. Won are clips with a higher score "
        f"afterwards; scores closer than {100 * TIE:g} % of the scale are a tie, and count as half."
    )
    return Table("Before and after", columns, rows, caption)


def category_table(every: Sequence[Scores]) -> Table | None:
    """Returns the differences within each category; None where there are fewer than two."""
    parts = [by_category(scores) for scores in every]
    names = dict.fromkeys(name for part in parts for name in part)
    if len(names) < 2:
        return None
    rows: list[list[Cell]] = []
    for name in names:
        cells = [
            Estimate(*part[name].difference, signed=True, percent=scores.share)
            if name in part
            else None
            for scores, part in zip(every, parts, strict=True)
        ]
        clips = max(part[name].clips for part in parts if name in part)
        rows.append([name or "none", *cells, clips])
    columns = ["Category", *(scores.name for scores in every), "Clips"]
    caption = "Differences, as above. With few prompts in a category the intervals are wide."
    return Table("Categories", columns, rows, caption)


def _mean(
    values: np.ndarray, prompts: np.ndarray, scale: float, bounds: tuple[float, float]
) -> Interval:
    spread = clustered_spread(values, prompts, scale=scale)
    mean, half = float(values.mean()), float(spread.half_width())
    return Interval(mean, max(bounds[0], mean - half), min(bounds[1], mean + half))


def _plain(comparison: Comparison) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("before", "after", "difference", "win_rate"):
        mean, *ends = getattr(comparison, name)
        found[name] = {"mean": mean, "ci": [end if math.isfinite(end) else None for end in ends]}
    counts = ("won", "tied", "lost", "clips", "prompts", "unscored")
    return found | {name: getattr(comparison, name) for name in counts}
