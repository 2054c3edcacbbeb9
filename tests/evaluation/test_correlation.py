import numpy as np
import pytest

from vidpref.evaluation.correlation import correlation


def ranks(values):
    """Mean ranks, counted by hand."""
    return np.array([np.sum(values < v) + (np.sum(values == v) + 1) / 2 for v in values])


def test_r_and_rho_from_their_definitions():
    rng = np.random.default_rng(0)
    judge, people = rng.standard_normal(50), rng.integers(-1, 2, 50).astype(float)
    judge += people
    found = correlation(judge, people)
    assert found.pearson == pytest.approx(np.corrcoef(judge, people)[0, 1], abs=1e-12)
    rho = np.corrcoef(ranks(judge), ranks(people))[0, 1]
    assert found.spearman == pytest.approx(rho, abs=1e-12)
    assert 0 < found.pearson_p < 1e-3
    assert 0 < found.spearman_p < 1e-3


def test_p_is_the_share_of_orders_that_go_together_as_well():
    rng = np.random.default_rng(2)
    judge, people = rng.standard_normal(30), rng.standard_normal(30)
    people += 0.3 * judge
    found = correlation(judge, people)
    shuffled = [np.corrcoef(rng.permutation(judge), people)[0, 1] for _ in range(4000)]
    share = np.mean(np.abs(shuffled) >= abs(found.pearson))
    assert found.pearson_p == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("judge", [[1.0, 2.0], [1.0, 1.0, 1.0]])
def test_without_variation_there_is_none(judge):
    assert np.isnan(correlation(np.array(judge), np.arange(len(judge), dtype=float))).all()
