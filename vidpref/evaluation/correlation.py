"""Correlation of a judge's numbers with those of people."""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from vidpref.evaluation.intervals import LEVEL, Interval
from vidpref.typing import Array, Float, Int

_FEWEST = 3  # of two points a line is certain
_FEWEST_CLUSTERS = 4  # so many that each can be left out
_DIGITS = 12  # of a deviation; what lies below is rounding
_NEAR_ONE = 1 - 1e-15  # arctanh of 1 is infinite


class Correlation(NamedTuple):
    """Pearson's r and Spearman's rho, each with its two-sided p-value.

    The p-values take items for independent of each other; those of one prompt are not quite.
    """

    pearson: float
    pearson_p: float
    spearman: float
    spearman_p: float


def correlation(judge: Float[Array, " n"], people: Float[Array, " n"]) -> Correlation:
    """Returns how a judge's numbers go with those of people.

    Args:
        judge: a number for each of n items, finite.
        people: the same of people.

    Returns:
        nan for all where there are fewer than 3 items, or either says the same of all.
    """
    judge, people = np.asarray(judge, np.float64), np.asarray(people, np.float64)
    if len(judge) < _FEWEST or not np.ptp(judge) or not np.ptp(people):
        return Correlation(*4 * [float("nan")])
    pearson, spearman = stats.pearsonr(judge, people), stats.spearmanr(judge, people)
    found = (pearson.statistic, pearson.pvalue, spearman.statistic, spearman.pvalue)
    return Correlation(*map(float, found))


def correlation_within(
    judge: Float[Array, " n"], people: Float[Array, " n"], prompts: Int[Array, " n"]
) -> Correlation:
    """Returns the correlation of what clips have above the mean of their prompt.

    Pairs of clips of one prompt, which preferences are, see this alone: prompts that are easy for
    the generator and please the judge, or displease it, can hide it or make it up over all clips.

    A mean is taken off each of G prompts, so n - G - 1 degrees of freedom are left for p, as with
    the partial correlation given the prompt, or the slope in a regression with a constant for each;
    Spearman's rho of the deviations, which has no such derivation, takes the same.

    Args:
        judge: a number for each of n clips, finite.
        people: the same of people.
        prompts: prompt of each clip. One with a single clip says nothing, and does not count in n.

    Returns:
        nan where no degree of freedom is left, or either says the same of all clips of a prompt.
    """
    some = np.bincount(_codes(prompts))[_codes(prompts)] > 1
    prompts = np.asarray(prompts)[some]
    apart = (deviations(np.asarray(side)[some], prompts) for side in (judge, people))
    found, free = correlation(*apart), len(prompts) - len(np.unique(prompts)) - 1
    if free < 1:
        return Correlation(*4 * [float("nan")])
    p_values = (_p_value(r, free) for r in (found.pearson, found.spearman))
    return Correlation(found.pearson, next(p_values), found.spearman, next(p_values))


def deviations(values: Float[Array, " n"], prompts: Int[Array, " n"]) -> Float[Array, " n"]:
    """Returns what each value lies above the mean of its prompt, without what rounding leaves.

    Args:
        values: a number for each of n clips, finite.
        prompts: prompt of each clip.
    """
    codes, values = _codes(prompts), np.asarray(values, np.float64)
    means = np.bincount(codes, values) / np.bincount(codes)
    scale = float(np.ptp(values)) if len(values) else 0.0
    return scale * np.round((values - means[codes]) / (scale or 1.0), _DIGITS)


def pearson_interval(
    judge: Float[Array, " n"],
    people: Float[Array, " n"],
    clusters: Int[Array, " n"],
    *,
    level: float = LEVEL,
) -> Interval:
    """Returns Pearson's r with an interval over clusters, such as prompts, by the jackknife.

    r is taken anew without each of G clusters, and Fisher's z = arctanh(r) of these spreads by
    `(G - 1) / G sum (z_g - mean)^2`; the interval is that of t with G - 1 degrees of freedom
    (Arvesen, Ann. Math. Stat. 40, 1969; Hinkley, Biometrika 64, 1977). It asks for no normal
    distribution, and for no independence but that of clusters.

    Args:
        judge: a number for each of n items, finite.
        people: the same of people.
        clusters: cluster of each item. Of fewer than 4, or where either side varies in one of them
            alone, the interval is [-1, 1].
        level: of the interval.

    Returns:
        nan for all where `correlation` is nan.
    """
    r = correlation(judge, people).pearson
    if np.isnan(r):
        return Interval(r, r, r)
    codes = _codes(clusters)
    count = int(codes.max()) + 1
    if count < _FEWEST_CLUSTERS:
        return Interval(r, -1.0, 1.0)
    x, y = (stats.zscore(np.asarray(side, np.float64)) for side in (judge, people))
    parts = np.stack([np.bincount(codes, part) for part in (x * 0 + 1, x, y, x * x, y * y, x * y)])
    without = _pearson(parts.sum(axis=1, keepdims=True) - parts)
    if np.isnan(without).any():
        return Interval(r, -1.0, 1.0)
    z = np.arctanh(np.clip([r, *without], -_NEAR_ONE, _NEAR_ONE))
    error = np.sqrt((count - 1) / count * np.square(z[1:] - z[1:].mean()).sum())
    half = special.stdtrit(count - 1, (1 + level) / 2) * error
    low, high = np.tanh([z[0] - half, z[0] + half])
    return Interval(r, float(low), float(high))


def _pearson(parts: np.ndarray) -> np.ndarray:
    """r of sums of 1, x, y, x^2, y^2, xy of standard scores [6, g]; nan where one is constant."""
    n, x, y, xx, yy, xy = parts
    spread = np.stack([xx - x * x / n, yy - y * y / n])
    spread[spread < 1e-9] = np.nan
    return (xy - x * y / n) / np.sqrt(spread.prod(axis=0))


def _p_value(r: float, free: int) -> float:
    """Two-sided, of the t that a correlation with so many degrees of freedom is."""
    if np.isnan(r):
        return float("nan")
    with np.errstate(divide="ignore"):
        t = abs(r) * np.sqrt(free / np.float64(max(1 - r * r, 0.0)))
    return float(2 * special.stdtr(free, -t))


def _codes(clusters: Int[Array, " n"]) -> np.ndarray:
    return np.unique(np.asarray(clusters), return_inverse=True)[1]
