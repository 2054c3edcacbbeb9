import math

import numpy as np
import pytest

from vidpref.evaluation.kappa import cohens_kappa


def test_cohens_own_kind_of_example():
    # both yes 20, first alone 5, second alone 10, both no 15: p_o = .7, p_e = .5, kappa = .4
    first = np.repeat([1.0, 1.0, 0.0, 0.0], [20, 5, 10, 15])
    second = np.repeat([1.0, 0.0, 1.0, 0.0], [20, 5, 10, 15])
    assert cohens_kappa(first, second) == pytest.approx(0.4, abs=1e-12)


def test_ends():
    votes = np.array([1.0, 0.0, -1.0, 1.0])
    assert cohens_kappa(votes, votes) == 1.0
    assert cohens_kappa(votes, np.zeros(4)) == 0.0
    assert math.isnan(cohens_kappa(np.zeros(3), np.zeros(3)))
    assert cohens_kappa(votes, np.full(4, np.nan)) == 0.0
    with pytest.raises(ValueError, match="no verdicts"):
        cohens_kappa(np.zeros(0), np.zeros(0))


def test_from_the_table_of_counts():
    rng = np.random.default_rng(1)
    for _ in range(20):
        first = rng.integers(-1, 2, 40)
        second = np.where(rng.random(40) < 0.5, first, rng.integers(-1, 2, 40))
        table = np.zeros((3, 3))
        np.add.at(table, (first + 1, second + 1), 1 / 40)
        chance = table.sum(0) @ table.sum(1)
        expected = (np.trace(table) - chance) / (1 - chance)
        found = cohens_kappa(first.astype(float), second.astype(float))
        assert found == pytest.approx(expected, abs=1e-12)
