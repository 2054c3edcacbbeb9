"""Whether a judge of pairs favours a side: what it says when the two clips change places."""

import dataclasses

import numpy as np

from vidpref.evaluation.intervals import Interval, clustered_rate
from vidpref.typing import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class PositionBias:
    """What changes with the order of the clips.

    Attributes:
        pairs: that were judged in both orders.
        flips: share of them whose winner changes with the order, so that a side wins, not a clip.
        changes: share whose verdict changes in any way, to or from a tie too.
        first: share of all decided verdicts, of both orders, that favour the clip shown first.
    """

    pairs: int
    flips: Interval
    changes: Interval
    first: float


def position_bias(
    shown: Float[Array, " n"], swapped: Float[Array, " n"], prompts: Int[Array, " n"]
) -> PositionBias | None:
    """Returns the position bias of a judge; None where no pair was judged in both orders.

    Args:
        shown: votes with clip A first: 1 for A, 0 for a tie, -1 for B, nan for no verdict.
        swapped: votes with clip B first, in the same terms: 1 is still for clip A.
        prompts: cluster of each pair, for the intervals.
    """
    shown, swapped = np.asarray(shown, np.float64), np.asarray(swapped, np.float64)
    both = ~np.isnan(shown) & ~np.isnan(swapped)
    if not both.any():
        return None
    shown, swapped, prompts = shown[both], swapped[both], np.asarray(prompts)[both]
    decided = np.concatenate([shown[shown != 0], -swapped[swapped != 0]])
    return PositionBias(
        pairs=int(both.sum()),
        flips=clustered_rate((shown * swapped < 0).astype(np.float64), prompts),
        changes=clustered_rate((shown != swapped).astype(np.float64), prompts),
        first=float(np.mean(decided > 0)) if len(decided) else float("nan"),
    )


def both_orders(shown: Float[Array, " n"], swapped: Float[Array, " n"]) -> Float[np.ndarray, " n"]:
    """Returns one margin a pair from votes in either order, as `position_bias` takes them: their
    mean, so that a flip is a tie; where one is missing, the other; nan where both are.
    """
    votes = np.stack([np.asarray(shown, np.float64), np.asarray(swapped, np.float64)])
    there = ~np.isnan(votes)
    count = there.sum(axis=0)
    return np.where(
        count > 0, np.where(there, votes, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan
    )
