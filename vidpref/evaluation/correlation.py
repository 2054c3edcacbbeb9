"""Correlation of a judge's numbers with those of people."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from vidpref.typing import Array, Float

_FEWEST = 3  # of two points a line is certain


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
