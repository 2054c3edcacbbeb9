import math

import numpy as np
import pytest

from vidpref.evaluation.position_bias import both_orders, position_bias

NAN = float("nan")


def test_counted_by_hand():
    shown = np.array([1.0, 1.0, -1.0, 0.0, 1.0, NAN])
    swapped = np.array([1.0, -1.0, -1.0, 1.0, NAN, 1.0])
    found = position_bias(shown, swapped, np.array([0, 0, 1, 1, 2, 2]))
    assert found.pairs == 4
    assert found.flips.mean == 0.25
    assert found.flips.low < 0.25 < found.flips.high
    assert found.changes.mean == 0.5
    # with A first: first, first, second; with B first: second, first, first, second
    assert found.first == pytest.approx(4 / 7)


def test_a_judge_that_always_takes_the_first():
    votes = np.ones(10)
    found = position_bias(votes, -votes, np.arange(10))
    assert (found.flips.mean, found.first) == (1.0, 1.0)
    np.testing.assert_array_equal(both_orders(votes, -votes), np.zeros(10))


def test_one_margin_a_pair():
    found = both_orders(np.array([1.0, 1.0, NAN, NAN]), np.array([1.0, 0.0, -1.0, NAN]))
    np.testing.assert_array_equal(found, [1.0, 0.5, -1.0, NAN])


def test_without_both_orders_there_is_none():
    assert position_bias(np.ones(2), np.full(2, NAN), np.arange(2)) is None
    only_ties = position_bias(np.zeros(2), np.zeros(2), np.arange(2))
    assert math.isnan(only_ties.first)
