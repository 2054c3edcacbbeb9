"""Krippendorff's alpha against published examples, Fleiss' kappa, and its definition."""

import itertools

import numpy as np
import pytest
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from vidpref.evaluation.krippendorff import alpha_interval, krippendorffs_alpha

NO = np.nan
# The computational example of Wikipedia's "Krippendorff's alpha": three coders, 15 units.
WIKIPEDIA = np.array(
    [
        [NO, NO, NO, NO, NO, 3, 4, 1, 2, 1, 1, 3, 3, NO, 3],
        [1, NO, 2, 1, 3, 3, 4, 3, NO, NO, NO, NO, NO, NO, NO],
        [NO, NO, 2, 1, 3, 4, 4, NO, 2, 1, 1, 3, 3, NO, 4],
    ]
).T
# Krippendorff's "C" data, as R's package irr has it: four observers, 12 units. Both alphas are
# those that the tests of the Python package krippendorff hold.
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
        [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
    ]
).T


def by_definition(ratings):
    """Pairs of ratings one by one, for values that differ or do not."""
    units = [row[~np.isnan(row)] for row in ratings]
    units = [unit for unit in units if len(unit) > 1]
    pooled = np.concatenate(units)
    n = len(pooled)
    within = sum(
        sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    between = sum(a != b for a, b in itertools.permutations(pooled, 2)) / (n * (n - 1))
    return 1 - within / n / between


def random_ratings(seed, *, units=40, raters=4, missing=0.3):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (units, 1))
    said = np.where(rng.random((units, raters)) < 0.6, truth, rng.integers(0, 3, (units, raters)))
    return np.where(rng.random((units, raters)) < missing, NO, said)


def test_published_examples():
    assert krippendorffs_alpha(WIKIPEDIA) == pytest.approx(0.691358, abs=1e-6)
    assert krippendorffs_alpha(FOUR_OBSERVERS, "ordinal") == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_ratings_one_by_one(seed):
    ratings = random_ratings(seed)
    assert krippendorffs_alpha(ratings) == pytest.approx(by_definition(ratings), abs=1e-12)


def test_without_missing_ratings_it_is_fleiss_kappa_of_a_small_sample():
    ratings = random_ratings(3, missing=0)
    counts, _ = aggregate_raters(ratings.astype(int))
    n = ratings.size
    expected = 1 - (1 - fleiss_kappa(counts)) * (n - 1) / n
    assert krippendorffs_alpha(ratings) == pytest.approx(expected, abs=1e-12)


def test_ordinal_counts_how_far_apart_verdicts_are():
    near = np.array([[0, 1], [1, 2], [0, 0], [2, 2], [1, 1]], float)
    far = np.array([[0, 2], [1, 1], [0, 0], [2, 2], [1, 0]], float)
    assert krippendorffs_alpha(near, "ordinal") > krippendorffs_alpha(far, "ordinal")
    assert krippendorffs_alpha(3 * near - 7, "ordinal") == krippendorffs_alpha(near, "ordinal")


def test_where_there_is_nothing_to_compare_it_is_nan():
    assert np.isnan(krippendorffs_alpha(np.array([[1, NO], [NO, 2]])))
    assert np.isnan(krippendorffs_alpha(np.array([[1.0, 1.0], [1.0, 1.0]])))
    assert np.isnan(krippendorffs_alpha(np.zeros((0, 2))))
    assert np.isnan(alpha_interval(np.array([[1, NO]]), np.array([0])).low)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    truth = krippendorffs_alpha(random_ratings(0, units=40000))
    found = [alpha_interval(random_ratings(s), np.arange(40)) for s in range(1, 301)]
    held = np.mean([low <= truth <= high for _, low, high in found])
    assert 0.92 <= held <= 1.0  # of 300 draws at 95 %, with the added trial
    assert np.mean([high - low for _, low, high in found]) < 0.45


def test_few_prompts_are_no_certainty():
    agreed = np.array([[0, 0], [1, 1], [2, 2], [0, 0]], float)
    alpha, low, high = alpha_interval(agreed, np.arange(4))
    assert (alpha, high) == (1.0, 1.0)
    assert low < 0.6
    assert alpha_interval(agreed, np.zeros(4, int))[1:] == (-1.0, 1.0)
