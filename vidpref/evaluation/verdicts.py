"""The rule for verdicts: what a measured difference says about a claim.

A claim says of a difference that it is above 0 (superior), not below 0 by anything that matters
(not inferior), or 0 for all that matters (equal). What matters is the smallest effect of interest:
3 points of acceptance, 1 point of a graded score. Each claim has one primary dimension; over the
primary rows of all claims the false discovery rate is held at 5 % (Benjamini and Hochberg 1995).
Equality is two one-sided tests (Schuirmann 1987), which is a 90 % interval.
"""

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np
from scipy import special

from vidpref.evaluation.intervals import LEVEL, Spread
from vidpref.typing import Array, Float

SMALLEST = {"accept": 0.03}  # smallest effects of interest, of scores within [0, 1]
SMALLEST_GRADED = 0.01
FALSE_DISCOVERIES = 0.05
FEWEST_SEEDS = 3  # two say too little of how seeds differ for any interval to be trusted
MOST_SEEDS = 50  # that are looked at in `seeds_needed`
_EQUAL_LEVEL = 0.9  # two one-sided tests at 5 %


class Kind(enum.Enum):
    """What is claimed of a difference."""

    SUPERIOR = "superior"
    NOT_INFERIOR = "not inferior"
    EQUAL = "equal"


class Outcome(enum.Enum):
    """What a difference says about a claim."""

    HOLDS = "holds"
    HOLDS_SMALL = "holds, small"
    REFUTED = "refuted"
    REFUTED_SMALL = "refuted, small"
    NO_EFFECT = "no effect worth naming"
    UNRESOLVED = "unresolved"


@dataclasses.dataclass(frozen=True)
class Measured:
    """A difference of two policies, policy minus baseline.

    Attributes:
        mean: mean difference, of scores within [0, 1].
        spread: what its variance consists of.
        smallest: smallest effect of interest.
    """

    mean: float
    spread: Spread
    smallest: float

    def ends(self, level: float = LEVEL) -> tuple[float, float]:
        """Both ends of the t interval."""
        half = float(self.spread.half_width(level))
        return self.mean - half, self.mean + half


@dataclasses.dataclass(frozen=True)
class Verdict:
    """An outcome and what led to it.

    Attributes:
        outcome: see `judge`.
        p: of the claim's own test, see `p_value`.
        seeds: training seeds that an unresolved claim would take; None where that is not so, and
            where `MOST_SEEDS` would not do.
        uncorrected: unresolved only because of the number of claims.
        single: measured with one seed, which says nothing about others.
    """

    outcome: Outcome
    p: float
    seeds: int | None = None
    uncorrected: bool = False
    single: bool = False

    def __str__(self) -> str:
        if self.outcome != Outcome.UNRESOLVED:
            return self.outcome.value
        if self.single:
            return f"{self.outcome.value} (one seed says nothing about others)"
        would = f"more than {MOST_SEEDS}" if self.seeds is None else f"about {self.seeds}"
        alone = "alone it would stand; " if self.uncorrected else ""
        return f"{self.outcome.value} ({alone}{would} seeds would settle it)"


def smallest_effect(dimension: str) -> float:
    """Returns the smallest effect of interest in a dimension, of scores within [0, 1]."""
    return SMALLEST.get(dimension, SMALLEST_GRADED)


def p_value(kind: Kind, measured: Measured) -> float:
    """Returns the p value of a claim's own test.

    Superior: two-sided, of a difference of 0. Not inferior: two-sided, of minus the smallest
    effect, so that either side of it is a discovery, as its 95 % interval. Equal: the larger of the
    two one-sided tests.
    """
    smallest = measured.smallest
    match kind:
        case Kind.SUPERIOR:
            return 2 * _tail(measured, abs(measured.mean))
        case Kind.NOT_INFERIOR:
            return 2 * _tail(measured, abs(measured.mean + smallest))
        case Kind.EQUAL:
            return _tail(measured, smallest - abs(measured.mean))


def verdicts(
    kinds: Sequence[Kind], measured: Sequence[Measured], *, rate: float = FALSE_DISCOVERIES
) -> list[Verdict]:
    """Returns the verdict of each claim, of the primary rows of all claims together.

    Args:
        kinds: what is claimed.
        measured: what was measured, in the claims' primary dimensions.
        rate: share of the discoveries that may be false (Benjamini and Hochberg). A claim with
            fewer than `FEWEST_SEEDS` seeds is none.
    """
    values = [
        p_value(kind, found) if found.spread.seeds >= FEWEST_SEEDS else 1.0
        for kind, found in zip(kinds, measured, strict=True)
    ]
    passed = discoveries(np.asarray(values, np.float64), rate)
    threshold = rate * min(int(passed.sum()) + 1, len(values)) / max(len(values), 1)  # of one more
    return [
        _verdict(kind, found, p, bool(stands), threshold)
        for kind, found, p, stands in zip(kinds, measured, values, passed, strict=True)
    ]


def discoveries(p: Float[Array, " n"], rate: float = FALSE_DISCOVERIES) -> np.ndarray:
    """Returns which of n tests are discoveries (Benjamini and Hochberg 1995, their procedure).

    Args:
        p: a p value each.
        rate: expected share of false ones among the discoveries.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= rate * np.arange(1, p.size + 1) / max(p.size, 1))
    found = np.zeros(p.size, bool)
    found[order[: below[-1] + 1 if below.size else 0]] = True
    return found


def judge(kind: Kind, measured: Measured) -> Outcome:
    """Returns what an interval alone says about a claim, before the number of claims counts.

    Superior: no effect worth naming where the 90 % interval lies within the smallest effect of
    interest on both sides; holds where the 95 % interval lies above 0, "small" where the estimate
    is below the smallest effect; refuted likewise below 0. Not inferior: holds where the 95 %
    interval lies above minus the smallest effect, refuted where below. Equal: holds where the 90 %
    interval lies within the smallest effect, refuted where the 95 % interval lies beyond it.
    Unresolved otherwise, and with fewer than `FEWEST_SEEDS` seeds.
    """
    smallest = measured.smallest
    low, high = measured.ends()
    narrow_low, narrow_high = measured.ends(_EQUAL_LEVEL)
    within = -smallest < narrow_low and narrow_high < smallest
    if measured.spread.seeds < FEWEST_SEEDS:
        return Outcome.UNRESOLVED
    if kind == Kind.EQUAL:
        if within:
            return Outcome.HOLDS
        beyond = low > smallest or high < -smallest
        return Outcome.REFUTED if beyond else Outcome.UNRESOLVED
    if kind == Kind.NOT_INFERIOR:
        if low > -smallest:
            return Outcome.HOLDS
        return Outcome.REFUTED if high < -smallest else Outcome.UNRESOLVED
    if within:
        return Outcome.NO_EFFECT
    large = abs(measured.mean) >= smallest
    if low > 0:
        return Outcome.HOLDS if large else Outcome.HOLDS_SMALL
    if high < 0:
        return Outcome.REFUTED if large else Outcome.REFUTED_SMALL
    return Outcome.UNRESOLVED


def seeds_needed(kind: Kind, measured: Measured, threshold: float = 1.0) -> int | None:
    """Returns how many training seeds would settle a claim if the estimates stayed as they are.

    Args:
        kind: what is claimed.
        measured: what was measured.
        threshold: p value up to which it is a discovery among the other claims.

    Returns:
        None where `MOST_SEEDS` would not do, since with the same prompts the interval does not
        shrink below what these leave open, or where one seed says nothing about others.
    """
    if measured.spread.seeds < 2:
        return None
    for seeds in range(max(measured.spread.seeds, FEWEST_SEEDS), MOST_SEEDS + 1):
        then = dataclasses.replace(measured, spread=measured.spread.at(seeds))
        if _settled(kind, judge(kind, then), p_value(kind, then) <= threshold):
            return seeds
    return None


def _verdict(kind: Kind, measured: Measured, p: float, stands: bool, threshold: float) -> Verdict:
    outcome = judge(kind, measured)
    if _settled(kind, outcome, stands):
        return Verdict(outcome, p)
    needed = seeds_needed(kind, measured, threshold)
    alone = outcome != Outcome.UNRESOLVED
    single = measured.spread.seeds == 1
    return Verdict(Outcome.UNRESOLVED, p, needed, uncorrected=alone, single=single)


def _settled(kind: Kind, outcome: Outcome, stands: bool) -> bool:
    """Whether an outcome needs no more seeds; `stands` is that its p value is a discovery."""
    if outcome == Outcome.UNRESOLVED:
        return False
    # the p value of a claim is not of these
    of_another = outcome == Outcome.NO_EFFECT or (kind, outcome) == (Kind.EQUAL, Outcome.REFUTED)
    return stands or of_another


def _tail(measured: Measured, distance: float) -> float:
    """Chance that the estimate lies further off than a distance, on one side."""
    error = float(np.sqrt(measured.spread.variance))
    return float(special.stdtr(measured.spread.freedom, -distance / error))
