"""The rule for verdicts, outcome by outcome; the false discovery rate against scipy."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from vidpref.evaluation.intervals import Spread
from vidpref.evaluation.verdicts import (
    Kind,
    Measured,
    Outcome,
    Verdict,
    discoveries,
    judge,
    p_value,
    seeds_needed,
    smallest_effect,
    verdicts,
)


def measured(mean, error, *, smallest=0.03, seeds=5, prompts=200):
    """A difference in points of 100 whose standard error, in points, is that of prompts alone."""
    spread = Spread(0.0, (error / 100) ** 2, 0.0, seeds, prompts)
    return Measured(mean / 100, spread, smallest)


@pytest.mark.parametrize(
    ("kind", "mean", "error", "outcome"),
    [
        (Kind.SUPERIOR, 5, 1, Outcome.HOLDS),
        (Kind.SUPERIOR, 2.5, 1, Outcome.HOLDS_SMALL),
        (Kind.SUPERIOR, -5, 1, Outcome.REFUTED),
        (Kind.SUPERIOR, -2.5, 1, Outcome.REFUTED_SMALL),
        (Kind.SUPERIOR, 0, 1, Outcome.NO_EFFECT),
        (Kind.SUPERIOR, 0.05, 0.01, Outcome.NO_EFFECT),  # "+0.0 [+0.0, +0.1]" does not hold
        (Kind.SUPERIOR, 3, 2, Outcome.UNRESOLVED),
        (Kind.NOT_INFERIOR, 0, 1, Outcome.HOLDS),
        (Kind.NOT_INFERIOR, -2, 1, Outcome.UNRESOLVED),
        (Kind.NOT_INFERIOR, 10, 1, Outcome.HOLDS),
        (Kind.NOT_INFERIOR, -10, 1, Outcome.REFUTED),
        (Kind.EQUAL, 1, 1, Outcome.HOLDS),
        (Kind.EQUAL, 2, 1, Outcome.UNRESOLVED),
        (Kind.EQUAL, 10, 1, Outcome.REFUTED),
    ],
)
def test_outcomes(kind, mean, error, outcome):
    found = measured(mean, error)
    assert judge(kind, found) == outcome
    (verdict,) = verdicts([kind], [found])
    assert verdict.outcome == outcome
    few = dataclasses.replace(found, spread=dataclasses.replace(found.spread, seeds=2))
    assert judge(kind, few) == Outcome.UNRESOLVED  # whatever two seeds say


def test_equality_is_a_90_percent_interval():
    edge = stats.t.ppf(0.95, 199)
    assert judge(Kind.SUPERIOR, measured(3 - 1.01 * edge, 1)) == Outcome.NO_EFFECT
    assert judge(Kind.SUPERIOR, measured(3 - 0.99 * edge, 1)) == Outcome.UNRESOLVED


def test_p_values_are_where_intervals_end():
    quantile = stats.t.ppf(0.975, 199)
    assert p_value(Kind.SUPERIOR, measured(quantile, 1)) == pytest.approx(0.05)
    assert p_value(Kind.NOT_INFERIOR, measured(quantile - 3, 1)) == pytest.approx(0.05)
    edge = measured(3 - stats.t.ppf(0.95, 199), 1)
    assert p_value(Kind.EQUAL, edge) == pytest.approx(0.05)
    expected = stats.ttest_ind_from_stats(1, 1, 200, 0, 1e-9, 200, equal_var=False).pvalue
    one = Measured(1.0, Spread(0.0, 1 / 200, 0.0, 1, 200), 0.03)
    assert p_value(Kind.SUPERIOR, one) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [1, 7, 300])
def test_discoveries_are_scipys(n):
    rng = np.random.default_rng(n)
    for rate in (0.05, 0.2):
        p = np.where(rng.uniform(size=n) < 0.4, rng.beta(0.3, 8, n), rng.uniform(size=n))
        expected = stats.false_discovery_control(p) <= rate
        np.testing.assert_array_equal(discoveries(p, rate), expected)
    assert discoveries(np.array([])).size == 0


def test_what_stands_alone_may_not_stand_among_many():
    strong, weak = measured(10, 1), measured(4, 1.9)
    assert judge(Kind.SUPERIOR, weak) == Outcome.HOLDS
    nothing = measured(1, 3)
    found = verdicts([Kind.SUPERIOR] * 12, [strong, weak, *[nothing] * 10])
    assert found[0].outcome == Outcome.HOLDS
    assert found[1].outcome == Outcome.UNRESOLVED
    assert found[1].uncorrected
    assert "alone it would stand" in str(found[1])
    alone = verdicts([Kind.SUPERIOR] * 2, [strong, weak])
    assert alone[1].outcome == Outcome.HOLDS


def test_a_claim_with_few_seeds_is_no_discovery_and_helps_no_other():
    few = [measured(10, 0.5, seeds=seeds) for seeds in (1, 2)]
    nothing = [measured(1, 3)] * 9
    weak = measured(4, 1.65)
    found = verdicts([Kind.SUPERIOR] * 12, [*few, weak, *nothing])
    assert [v.outcome for v in found[:3]] == [Outcome.UNRESOLVED] * 3
    assert [v.p for v in found[:2]] == [1.0, 1.0]
    assert str(found[0]) == "unresolved (one seed says nothing about others)"
    assert "seeds would settle it" in str(found[1])
    assert found[2].uncorrected


def test_seeds_that_it_would_take():
    # all of the variance is the seeds': 1 / S of it with S seeds
    spread = Spread(4e-4, 1e-9, 0.0, 4, 200)  # standard error 2 points with 4 seeds, t(3)
    found = Measured(0.035, spread, 0.03)
    assert judge(Kind.SUPERIOR, found) == Outcome.UNRESOLVED
    expected = next(s for s in range(4, 50) if stats.t.ppf(0.975, s - 1) * 4 / np.sqrt(s) < 3.5)
    assert seeds_needed(Kind.SUPERIOR, found) == expected
    assert seeds_needed(Kind.SUPERIOR, found, threshold=0.001) > expected
    (verdict,) = verdicts([Kind.SUPERIOR], [found])
    assert str(verdict) == f"unresolved (about {expected} seeds would settle it)"

    # prompts alone: no number of seeds helps
    assert seeds_needed(Kind.SUPERIOR, measured(3, 2)) is None
    assert "more than 50" in str(Verdict(Outcome.UNRESOLVED, 0.2))
    assert seeds_needed(Kind.SUPERIOR, measured(3, 2, seeds=1)) is None


def test_smallest_effects():
    assert smallest_effect("accept") == 0.03
    assert smallest_effect("motion_quality") == 0.01
