"""How often a judge sides with people on pairs of clips, ties among their votes.

A vote is 1 where clip A is better, -1 where B is and 0 for a tie; a margin is the judge's score of
A less that of B. With ties, margins up to a threshold count as ties of the judge, and the threshold
is the one with the highest accuracy (tie calibration; Deutsch et al. 2023, arXiv:2305.14324). It is
chosen on the pairs that it is measured on, as in the papers: `random_accuracy` says what that alone
is worth.
"""

from typing import NamedTuple

import numpy as np

from vidpref.typing import Array, Float

_DRAWS = 100


class TieAccuracy(NamedTuple):
    """The highest accuracy, and the threshold that has it: margins up to it are ties."""

    accuracy: float
    threshold: float


def accuracy_with_ties(votes: Float[Array, " n"], margins: Float[Array, " n"]) -> TieAccuracy:
    """Returns the accuracy over all thresholds that differ: also the one below every margin, and
    equal margins are tied together or not at all.

    Args:
        votes: 1, 0 or -1.
        margins: finite numbers.

    Raises:
        ValueError: no pairs, another vote, or a margin that is not finite.
    """
    votes, margins = _checked(votes, margins)
    sizes, right = _right_by_ties(votes, margins)
    apart = np.append(np.diff(sizes) > 0, True)  # a threshold lies behind the k smallest margins
    right[1:][~apart] = -1
    best = int(np.argmax(right))
    return TieAccuracy(right[best] / len(votes), float(sizes[best - 1]) if best else -1.0)


def official_accuracy_with_ties(votes: Float[Array, " n"], margins: Float[Array, " n"]) -> float:
    """Returns what `calc_accuracy_with_ties` of VideoAlign returns, bit for bit.

    Its search leaves out the threshold below every margin and moves equal margins one at a time, in
    the order of the rows; so on whole-number scores it is too high, and changes with that order
    (KwaiVGI/VideoAlign, calc_accuracy.py). A vote that is nan, a missing label, is never right.

    Args:
        votes: 1, 0, -1 or nan.
        margins: finite numbers.

    Raises:
        ValueError: as `accuracy_with_ties`.
    """
    votes, margins = _checked(votes, margins, missing=True)
    _, right = _right_by_ties(votes, margins)
    return int(right[1:].max()) / len(votes)


def accuracy_without_ties(votes: Float[Array, " n"], margins: Float[Array, " n"]) -> float:
    """Returns the accuracy on pairs that people found different; nan where there is none.

    Equal scores (a margin of 0) are wrong, and so is any score of a missing label (nan), as in
    `calc_accuracy_without_ties` of VideoAlign.

    Args:
        votes: 1, 0, -1 or nan.
        margins: finite numbers.

    Raises:
        ValueError: as `accuracy_with_ties`.
    """
    votes, margins = _checked(votes, margins, missing=True)
    apart = votes != 0
    if not apart.any():
        return float("nan")
    return int((votes * margins > 0).sum()) / int(apart.sum())


def verdicts(margins: Float[Array, " n"], threshold: float) -> Float[np.ndarray, " n"]:
    """Returns a judge's votes: 0 for margins up to the threshold, otherwise their sign.

    Below the threshold -1.0 even equal scores are no tie; they get nan, which agrees with no vote.
    """
    margins = np.asarray(margins, np.float64)
    signs = np.where(margins == 0, np.nan, np.sign(margins))
    return np.where(np.abs(margins) <= threshold, 0.0, signs)


def random_accuracy(votes: Float[Array, " n"], draws: int = _DRAWS) -> float:
    """Returns the mean `accuracy_with_ties` of judges that draw their scores from a normal
    distribution.

    Of many pairs it is `max(p, (1 - p) / 2)` for a share p of ties; of few, the search for a
    threshold adds to it.

    Args:
        votes: 1, 0 or -1.
        draws: judges, with seeds from 0 on.
    """
    votes = np.asarray(votes, np.float64)
    rng = np.random.default_rng(0)
    found = [
        accuracy_with_ties(votes, rng.standard_normal(len(votes))).accuracy for _ in range(draws)
    ]
    return float(np.mean(found))


def _right_by_ties(votes: np.ndarray, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the margins in ascending order [n], and how many pairs are right [n + 1] where the
    k smallest of them are ties.
    """
    order = np.argsort(np.abs(margins), kind="stable")
    votes, margins = votes[order], margins[order]
    signs = np.append(0, np.cumsum(votes * margins > 0))
    ties = np.append(0, np.cumsum(votes == 0))
    return np.abs(margins), ties + signs[-1] - signs


def _checked(
    votes: np.ndarray, margins: np.ndarray, *, missing: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    votes, margins = np.asarray(votes, np.float64), np.asarray(margins, np.float64)
    if not len(votes):
        raise ValueError("no pairs to measure accuracy on")
    known = np.isin(votes, (-1, 0, 1)) | (missing & np.isnan(votes))
    if not known.all():
        raise ValueError(f"a vote is 1, 0 or -1, not {votes[~known][0]:g}")
    if not np.isfinite(margins).all():
        raise ValueError(f"margins must be finite, not {margins[~np.isfinite(margins)][0]:g}")
    return votes, margins
