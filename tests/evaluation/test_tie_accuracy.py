import math

import numpy as np
import pytest

from vidpref.evaluation import tie_accuracy as ties


def brute_force(votes, margins):
    """The best accuracy over thresholds, each tried by itself."""
    pairs = list(zip(votes, margins, strict=True))
    thresholds = [-1.0, *sorted({abs(m) for m in margins})]
    return max(
        sum(abs(m) <= t if v == 0 else abs(m) > t and v * m > 0 for v, m in pairs) / len(pairs)
        for t in thresholds
    )


def one_at_a_time(votes, margins):
    """The public search in words: pairs become ties one by one, and the best state counts."""
    rows = sorted(zip(votes, margins, strict=True), key=lambda row: abs(row[1]))
    best = float("-inf")
    for tied in range(1, len(rows) + 1):
        right = sum(v == 0 for v, _ in rows[:tied]) + sum(v * m > 0 for v, m in rows[tied:])
        best = max(best, right / len(rows))
    return best


def draw(rng, whole):
    n = int(rng.integers(1, 30))
    margins = rng.integers(-3, 4, n).astype(float) if whole else rng.standard_normal(n)
    return rng.integers(-1, 2, n).astype(float), margins


@pytest.mark.parametrize("whole", [True, False])
def test_both_searches_against_trying_everything(whole):
    rng, higher, other_order = np.random.default_rng(0), 0, 0
    for _ in range(300):
        votes, margins = draw(rng, whole)
        exact = ties.accuracy_with_ties(votes, margins)
        assert exact.accuracy == brute_force(votes, margins)
        signs = ties.verdicts(margins, exact.threshold)
        assert np.mean(signs == votes) == exact.accuracy
        official = ties.official_accuracy_with_ties(votes, margins)
        assert official == one_at_a_time(votes, margins)
        higher += official > exact.accuracy
        back = ties.official_accuracy_with_ties(votes[::-1].copy(), margins[::-1].copy())
        other_order += back != official
    # only where margins are equal
    assert (higher > 0, other_order > 0) == (whole, whole)


def test_the_example_that_tells_the_two_apart():
    votes = margins = np.array([1.0, -1.0])
    assert ties.accuracy_with_ties(votes, margins) == (1.0, -1.0)
    assert ties.official_accuracy_with_ties(votes, margins) == 0.5  # golden of the public function


def test_missing_labels_are_wrong_in_the_public_search():
    votes, margins = np.array([1.0, np.nan, 0.0]), np.array([3.0, 2.0, 1.0])
    assert ties.official_accuracy_with_ties(votes, margins) == 2 / 3
    assert ties.accuracy_without_ties(votes, margins) == 1 / 2
    with pytest.raises(ValueError, match="a vote is 1, 0 or -1, not nan"):
        ties.accuracy_with_ties(votes, margins)


def test_without_ties_equal_scores_are_wrong():
    votes, margins = np.array([1.0, -1.0, 1.0, 0.0]), np.array([0.5, 0.2, 0.0, 0.0])
    assert ties.accuracy_without_ties(votes, margins) == 1 / 3
    assert math.isnan(ties.accuracy_without_ties(votes[3:], margins[3:]))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_a_random_judge_is_worth_its_closed_form(share):
    n = 4000
    votes = np.zeros(n)
    votes[int(n * share) :] = 1.0
    found = ties.random_accuracy(votes, draws=20)
    closed = max(share, (1 - share) / 2)
    assert closed - 0.005 < found < closed + 0.03  # the search finds a little more


def test_few_pairs_flatter_a_random_judge():
    votes = np.array([1.0, 0.0, -1.0])
    assert ties.random_accuracy(votes) > 0.45


@pytest.mark.parametrize(
    ("votes", "margins", "message"),
    [
        ([], [], "no pairs"),
        ([2.0], [1.0], "a vote is 1, 0 or -1, not 2"),
        ([1.0], [np.inf], "margins must be finite, not inf"),
    ],
)
def test_what_is_none_is_refused(votes, margins, message):
    for measure in (ties.accuracy_with_ties, ties.official_accuracy_with_ties):
        with pytest.raises(ValueError, match=message):
            measure(np.array(votes), np.array(margins))
