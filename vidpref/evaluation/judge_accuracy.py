"""How good a judge is: accuracy, agreement and correlation on pairs that people voted on."""

import dataclasses

import numpy as np

from vidpref.evaluation.correlation import Correlation, correlation
from vidpref.evaluation.intervals import Interval, clustered_rate
from vidpref.evaluation.judged_pairs import JudgedPairs
from vidpref.evaluation.kappa import cohens_kappa
from vidpref.evaluation.position_bias import PositionBias, position_bias
from vidpref.evaluation.tie_accuracy import (
    accuracy_with_ties,
    official_accuracy_with_ties,
    random_accuracy,
    verdicts,
)


@dataclasses.dataclass(frozen=True)
class JudgeAccuracy:
    """A judge in one dimension; intervals are of 95 % and over prompts.

    Attributes:
        dimension: that people judged.
        columns: the judge's dimensions that stand for it.
        votes: that are measured on: with a label and a margin.
        prompts: of these votes.
        ties: share of ties among these votes.
        failed: further votes, on pairs that the judge gave no verdict on.
        unlabelled: further votes, whose label is missing or unknown.
        with_ties: accuracy at the best threshold.
        threshold: margins up to it are ties; -1 for none.
        official: accuracy by VideoAlign's public search, on votes whose label is missing too.
        random: accuracy with ties of random scores.
        without_ties: accuracy on the votes that are no ties; None where all are.
        kappa: Cohen's, of the verdicts at the threshold with the votes.
        correlation: of margins with votes.
        position: of a judge of pairs that saw some in both orders.
    """

    dimension: str
    columns: tuple[str, ...]
    votes: int
    prompts: int
    ties: float
    failed: int
    unlabelled: int
    with_ties: Interval
    threshold: float
    official: float
    random: float
    without_ties: Interval | None
    kappa: float
    correlation: Correlation
    position: PositionBias | None


def judge_accuracy(pairs: JudgedPairs) -> JudgeAccuracy:
    """Measures a judge in one dimension.

    Raises:
        ValueError: no vote with a label on a pair that was judged.
    """
    labelled, judged = ~np.isnan(pairs.votes), ~np.isnan(pairs.margins)
    use = labelled & judged
    if not use.any():
        raise ValueError(
            f"{pairs.dimension}: none of {len(use)} votes can be measured on: "
            f"{int((~labelled).sum())} have no label, and the judge failed on "
            f"{int((~judged).sum())}"
        )
    votes, margins, prompts = pairs.votes[use], pairs.margins[use], pairs.prompts[use]
    best = accuracy_with_ties(votes, margins)
    said = verdicts(margins, best.threshold)
    apart = votes != 0
    position = None
    if pairs.shown is not None and pairs.swapped is not None:
        position = position_bias(pairs.shown, pairs.swapped, pairs.prompts)
    return JudgeAccuracy(
        dimension=pairs.dimension,
        columns=pairs.columns,
        votes=int(use.sum()),
        prompts=len(np.unique(prompts)),
        ties=float(np.mean(~apart)),
        failed=int((labelled & ~judged).sum()),
        unlabelled=int((~labelled).sum()),
        with_ties=clustered_rate((said == votes).astype(np.float64), prompts),
        threshold=best.threshold,
        official=official_accuracy_with_ties(pairs.votes[judged], pairs.margins[judged]),
        random=random_accuracy(votes),
        without_ties=_rate((votes * margins > 0)[apart], prompts[apart]),
        kappa=cohens_kappa(votes, said),
        correlation=correlation(margins, votes),
        position=position,
    )


def _rate(right: np.ndarray, prompts: np.ndarray) -> Interval | None:
    return clustered_rate(right.astype(np.float64), prompts) if len(right) else None
