"""Agreement beyond chance of any number of raters, of whom each saw what he saw."""

from typing import Literal

import numpy as np

from vidpref.evaluation.intervals import Interval, clustered_spread
from vidpref.typing import Array, Float, Int

_SPAN = 2.0  # alpha lies between -1 and 1


def krippendorffs_alpha(
    ratings: Float[Array, "units raters"], level: Literal["nominal", "ordinal"] = "nominal"
) -> float:
    """Returns `1 - D_o / D_e` of the observed disagreement and that of chance.

    Both are means of squared differences: of pairs of ratings of one unit, weighted so that each
    rating of a unit counts once, and of pairs of all these ratings, whatever their unit (Hayes and
    Krippendorff, Communication Methods and Measures 1, 2007). Units with one rating do not count.

    Args:
        ratings: numbers that stand for categories; nan where a rater did not see the unit.
        level: "nominal" differs or not; "ordinal" by how many ratings lie between two values.

    Returns:
        1 for full agreement, 0 for that of chance; nan where no unit has two ratings, or where all
        ratings are the same.
    """
    coincidences = _coincidences(np.asarray(ratings, np.float64))
    counts = coincidences.sum(axis=0)
    differences = _DIFFERENCES[level](counts)
    expected = counts @ differences @ counts
    if not expected:
        return float("nan")
    return float(1 - (counts.sum() - 1) * (coincidences * differences).sum() / expected)


def alpha_interval(
    ratings: Float[Array, "units raters"],
    prompts: Int[Array, " units"],
    level: Literal["nominal", "ordinal"] = "nominal",
) -> Interval:
    """Returns alpha with its 95 % interval, by the jackknife over prompts.

    The pseudo-values of the prompts are averaged as the house averages clips, with a trial more
    than there was, so that full agreement on few prompts is no certainty. A jackknife, since that
    of Hughes (arXiv 2210.13265) covers better than the customary bootstrap.

    Args:
        ratings, level: as for `krippendorffs_alpha`.
        prompts: cluster of each unit.

    Returns:
        Numbers within [-1, 1]; nan where alpha is, and an interval of all where one prompt alone
        has units with two ratings, or where alpha hangs on one prompt.
    """
    alpha = krippendorffs_alpha(ratings, level)
    paired = (~np.isnan(ratings)).sum(axis=1) > 1
    found, of_prompt = np.unique(np.asarray(prompts)[paired], return_inverse=True)
    if np.isnan(alpha):
        return Interval(alpha, alpha, alpha)
    kept = np.asarray(ratings)[paired]
    without = [krippendorffs_alpha(kept[of_prompt != one], level) for one in range(len(found))]
    values = len(found) * alpha - (len(found) - 1) * np.asarray(without)
    if len(found) < 2 or np.isnan(values).any():
        return Interval(alpha, -1.0, 1.0)
    spread = clustered_spread(values, np.arange(len(found)), scale=_SPAN / 2)
    half = float(spread.half_width())
    return Interval(alpha, max(-1.0, alpha - half), min(1.0, alpha + half))


def _coincidences(ratings: Float[np.ndarray, "units raters"]) -> Float[np.ndarray, "c c"]:
    """How often two values meet in a unit, a pair of a unit's m ratings counting 1 / (m - 1)."""
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[..., None] == values).sum(axis=1).astype(np.float64)
    counts = counts[counts.sum(axis=1) > 1]
    weights = 1 / (counts.sum(axis=1, keepdims=True) - 1)
    return (counts * weights).T @ counts - np.diag((counts * weights).sum(axis=0))


def _nominal(counts: Float[np.ndarray, " c"]) -> Float[np.ndarray, "c c"]:
    return 1.0 - np.eye(len(counts))


def _ordinal(counts: Float[np.ndarray, " c"]) -> Float[np.ndarray, "c c"]:
    middles = np.cumsum(counts) - counts / 2  # ranks of the values' middles
    return np.square(middles[:, None] - middles[None, :])


_DIFFERENCES = {"nominal": _nominal, "ordinal": _ordinal}
