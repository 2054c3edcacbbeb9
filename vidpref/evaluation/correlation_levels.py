"""Correlation of automatic scores with people's at every level: clips, prompts, policies.

The levels ask different things, and their answers may have different signs. Policies (AIF section
4.4, Figure 7): would tables of methods look alike? Prompts (AIF appendix K, Table 4): are the same
prompts hard? Clips: is a score worth something without its prompt beside it? Within prompts: which
of two clips of a prompt is better, which is all that pairs for training see.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from vidpref.evaluation.correlation import (
    Correlation,
    correlation,
    correlation_within,
    deviations,
    pearson_interval,
)
from vidpref.evaluation.intervals import Interval
from vidpref.evaluation.statistics import clusters

CLIPS, WITHIN, PROMPTS, POLICIES, CATEGORIES = LEVELS = (
    *("clips", "within prompts", "prompts", "policies", "clips by category"),
)
FEWEST_POLICIES = 3


@dataclasses.dataclass(frozen=True)
class LevelCorrelation:
    """How an automatic score goes with people's in one dimension, at one level.

    Attributes:
        level: one of `LEVELS`.
        category: of the clips, where the level goes by it, else "".
        proxy: name of the automatic score.
        truth: dimension that people scored.
        n: clips, or prompts or policies whose means they are.
        clusters: how many the interval is over: prompts, or policies.
        correlation: with p-values.
        interval: Pearson's r with its interval.
        note: why there is no number or interval, else "".
    """

    level: str
    category: str
    proxy: str
    truth: str
    n: int
    clusters: int
    correlation: Correlation
    interval: Interval
    note: str


class _Units(NamedTuple):
    """What is correlated at a level: arrays [n]."""

    level: str
    category: str
    proxy: np.ndarray
    truth: np.ndarray
    clusters: np.ndarray


def level_correlations(
    clips: pd.DataFrame, truth: pd.DataFrame, proxies: pd.DataFrame
) -> list[LevelCorrelation]:
    """Returns the correlation of every proxy with every dimension of the truth, level by level.

    Args:
        clips: a row a clip; of the columns prompt, split, policy and category those that are known.
            Without prompts, clips count as independent, and levels of prompts are left out; so is
            that of policies with fewer than 3.
        truth: for the same rows, a column a dimension; nan where people did not score the clip.
        proxies: likewise for automatic scores.

    Raises:
        ValueError: no clip.
    """
    if not len(clips):
        raise ValueError("no clips to correlate")
    found = [
        _measured(units, proxy, dimension)
        for dimension in truth
        for proxy in proxies
        for units in _units(clips, truth[dimension], proxies[proxy])
    ]
    return sorted(found, key=lambda one: (LEVELS.index(one.level), one.category))


def _units(clips: pd.DataFrame, truth: pd.Series, proxy: pd.Series) -> Iterator[_Units]:
    both = (truth.notna() & proxy.notna()).to_numpy()
    policies = clips["policy"].nunique() if "policy" in clips else 0
    categories = sorted(set(clips["category"])) if "category" in clips else []
    clips = clips[both]
    x, y = (side.to_numpy(np.float64)[both] for side in (proxy, truth))
    prompts = clusters(clips)[0] if "prompt" in clips else np.arange(len(clips))
    yield _Units(CLIPS, "", x, y, prompts)
    if "prompt" in clips:
        yield _Units(WITHIN, "", x, y, prompts)
        yield _means(PROMPTS, x, y, prompts)
    if policies >= FEWEST_POLICIES:
        yield _means(POLICIES, x, y, clips["policy"].to_numpy())
    for name in categories:
        own = (clips["category"] == name).to_numpy()
        yield _Units(CATEGORIES, name, x[own], y[own], prompts[own])


def _means(level: str, x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> _Units:
    means = pd.DataFrame({"x": x, "y": y}).groupby(groups).mean()
    own = np.arange(len(means))
    return _Units(level, "", means["x"].to_numpy(), means["y"].to_numpy(), own)


def _measured(units: _Units, proxy: str, truth: str) -> LevelCorrelation:
    x, y, of = units.proxy, units.truth, units.clusters
    if units.level == WITHIN:
        some = pd.Series(of).groupby(of).transform("size").to_numpy() > 1
        x, y, of = x[some], y[some], of[some]
        found = correlation_within(x, y, of)
        x, y = deviations(x, of), deviations(y, of)
    else:
        found = correlation(x, y)
    interval = pearson_interval(x, y, of)
    note = _note(units.level, {proxy: x, truth: y}, found, interval)
    count = len(np.unique(of))
    return LevelCorrelation(
        units.level, units.category, proxy, truth, len(x), count, found, interval, note
    )


def _note(level: str, sides: dict[str, np.ndarray], found: Correlation, interval: Interval) -> str:
    if np.isnan(found.pearson):
        alike = [name for name, values in sides.items() if len(values) and not np.ptp(values)]
        if alike and level == WITHIN:
            return f"{' and '.join(alike)}: the same within each prompt"
        if alike:
            return f"{' and '.join(alike)}: the same for all"
        return "too few"
    if interval[1:] == (-1.0, 1.0):
        return "too little for an interval"
    return ""
