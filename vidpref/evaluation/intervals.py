"""Means of clustered samples with 95 % intervals: one-way (prompts) and two-way (seeds, prompts).

Clips of one prompt resemble each other, so the prompt, not the clip, is the unit of evidence.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from vidpref.typing import Array, Float, Int

LEVEL = 0.95
_ZERO = 1e-12  # standard errors below this are rounding, not variation


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def clustered_mean(
    values: Float[Array, " n"],
    prompts: Int[Array, " n"],
    seeds: Int[Array, " n"] | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Returns the mean over all clips with a cluster-robust t interval, truncated to `bounds`.

    One way: the sandwich variance of a ratio mean, `G/(G-1) * sum_g (sum_i (y_gi - mean))^2 / n^2`
    over G prompts (CR1; Liang and Zeger 1986), with the t quantile of G-1 degrees of freedom.

    Two ways, when there are at least two training seeds: `V_seed + V_prompt - V_seed,prompt`
    (Cameron, Gelbach and Miller 2011, eq. 2.11), each with its own G/(G-1), not less than the
    larger one-way variance, and min(G)-1 degrees of freedom (Cameron and Miller 2015, VI.D).

    Without any variation between clusters, or with one prompt, the sandwich would claim certainty.
    Then every prompt counts as a single trial: by Wilson's bound a share `z^2 / (G + z^2)` of
    prompts may still behave otherwise, and those could lie anywhere within `bounds`. For a rate of
    0 or 1 that is Wilson's interval of G trials.

    Args:
        values: one number a clip, within `bounds`.
        prompts: cluster of each clip.
        seeds: training seed of each clip; with only one, the interval is over prompts alone.
        bounds: smallest and largest possible value.

    Raises:
        ValueError: no clips.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        raise ValueError("no clips to average")
    mean = float(values.mean())
    residuals = values - mean
    ways = [_codes(prompts)]
    if seeds is not None and len(np.unique(seeds)) > 1:
        ways.append(_codes(seeds))
    groups = min(int(way.max()) + 1 for way in ways)
    variance = _variance(residuals, ways)
    if groups < 2 or np.sqrt(variance) < _ZERO:
        return _without_variation(mean, groups, bounds)
    half = float(stats.t.ppf((1 + LEVEL) / 2, groups - 1) * np.sqrt(variance))
    return Interval(mean, max(bounds[0], mean - half), min(bounds[1], mean + half))


def _variance(residuals: np.ndarray, ways: list[np.ndarray]) -> float:
    one_way = [_one_way(residuals, way) for way in ways]
    if len(ways) == 1:
        return one_way[0]
    prompts, seeds = ways
    cells = _codes(prompts * (seeds.max() + 1) + seeds)
    return max(sum(one_way) - _one_way(residuals, cells), *one_way)


def _one_way(residuals: np.ndarray, codes: np.ndarray) -> float:
    sums = np.bincount(codes, residuals)
    groups = len(sums)
    if groups < 2:
        return 0.0
    return float(groups / (groups - 1) * np.square(sums).sum() / len(residuals) ** 2)


def _codes(clusters: np.ndarray) -> np.ndarray:
    return np.unique(clusters, return_inverse=True)[1]


def _without_variation(mean: float, groups: int, bounds: tuple[float, float]) -> Interval:
    z2 = stats.norm.ppf((1 + LEVEL) / 2) ** 2
    share = float(z2 / (groups + z2))
    low, high = bounds
    return Interval(mean, mean - share * (mean - low), mean + share * (high - mean))
