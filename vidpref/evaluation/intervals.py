"""Means of clustered samples with intervals: over prompts, or over training seeds and prompts.

Clips of one prompt resemble each other, so the prompt, not the clip, is the unit of evidence. With
several training seeds the effects of seed and prompt are crossed and random,

    y[s, p, c] = mean + seed[s] + prompt[p] + both[s, p] + clip[s, p, c],

and the variance of the mean of S seeds and P prompts is `(MS_s + MS_p - MS_sp) / (S P)`, of the
mean squares of the table of cell means, not less than what prompts alone give, `MS_p / (S P)`. Its
degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946), not fewer than S - 1.

Nothing here claims certainty for lack of variation, and no rule is switched on or off by it. A
mean's variance counts one trial more than there was (Wilson's term z^2 / 4n^2, z = 2): in one
prompt, one clip of every seed that lies off by the whole scale. A rate has Wilson's interval (JASA
22, 1927) of n / deff clips; their design effect deff is estimated together with z^2 clips that
agree within whole prompts, so that a rate of 0 or 1 counts prompts.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import special

from vidpref.typing import Array, Float, Int

LEVEL = 0.95
_Z2 = 4.0  # trials that stand for what was not seen; about the square of 1.96


class Interval(NamedTuple):
    """A mean and its interval."""

    mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Spread:
    """What the variance of a mean consists of; the parts are those of the variance of the mean.

    Numbers, or arrays of one shape: a simulation asks for many at once.

    Attributes:
        seed: mean square of the seeds / (S P); 0 with one seed.
        prompt: mean square of the prompts / (S P).
        both: mean square of their interaction / (S P); 0 with one seed.
        seeds, prompts: how many, S and P.
    """

    seed: float | np.ndarray
    prompt: float | np.ndarray
    both: float | np.ndarray
    seeds: int
    prompts: int

    @property
    def variance(self) -> float | np.ndarray:
        """Variance of the mean."""
        return self.prompt + np.maximum(self.seed - self.both, 0.0)

    @property
    def freedom(self) -> float | np.ndarray:
        """Satterthwaite's degrees of freedom of the variance."""
        free = self.prompts - 1
        if self.seeds < 2 or free < 1:
            return free + 0.0 * self.prompt
        fewest = min(self.seeds - 1, free)
        parts = np.square(self.seed) / (self.seeds - 1) + np.square(self.prompt) / free
        parts = parts + np.square(self.both) / ((self.seeds - 1) * free)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.where(parts > 0, np.square(self.variance) / parts, free)
        return np.maximum(found, fewest)

    def half_width(self, level: float = LEVEL) -> float | np.ndarray:
        """Half of the width of the t interval; infinite with a single prompt."""
        if self.prompts < 2:
            return np.inf + 0.0 * self.prompt
        return special.stdtrit(self.freedom, (1 + level) / 2) * np.sqrt(self.variance)

    def at(self, seeds: int) -> "Spread":
        """The spread to be expected with another number of seeds and the same prompts.

        The variances of prompts, seeds and the rest stay as they are estimated here.

        Raises:
            ValueError: estimated from one seed, which says nothing about others.
        """
        if self.seeds < 2:
            raise ValueError("one seed says nothing about how seeds differ")
        rest = self.both * self.seeds  # of the mean of one seed
        of_seed = np.maximum(self.seed - self.both, 0.0) * self.seeds
        of_prompt = np.maximum(self.prompt - self.both, 0.0)
        return Spread(
            (of_seed + rest) / seeds, of_prompt + rest / seeds, rest / seeds, seeds, self.prompts
        )

    def with_trials(self, variance: float) -> "Spread":
        """The spread with a variance added to that of the prompts."""
        return dataclasses.replace(self, prompt=self.prompt + variance)


def spread_of(
    values: Float[Array, " n"],
    prompts: Int[Array, " n"],
    seeds: Int[Array, " n"] | None = None,
) -> Spread:
    """Returns what the variance of the mean of all clips consists of.

    With one seed the sandwich variance of a ratio mean, `G/(G-1) sum_g (sum_i r_gi)^2 / n^2` over G
    prompts (CR1; Liang and Zeger 1986). With several, the mean squares of the two-way table as such
    sums: those of analysis of variance where every seed has the same prompts and as many clips of
    each; where some are missing, averages stand for the numbers of prompts and of seeds.

    Args:
        values: one number a clip.
        prompts: cluster of each clip.
        seeds: training seed of each clip; None for one.

    Raises:
        ValueError: no clips, or seeds that have no prompt in common with any other: their prompts
            would be taken for seeds.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        raise ValueError("no clips to average")
    scores = (values - values.mean()) / values.size
    of_prompt, prompt_count = _codes(prompts)
    of_seed, seed_count = _codes(np.zeros(values.size, int) if seeds is None else seeds)
    by_prompt = _squares(scores, of_prompt) * prompt_count / max(prompt_count - 1, 1)
    if seed_count == 1:
        return Spread(0.0, by_prompt, 0.0, 1, prompt_count)
    of_cell, cells = _codes(of_prompt * seed_count + of_seed)
    if cells == prompt_count:
        raise ValueError(
            f"{seed_count} training seeds without a prompt in common: an interval over seeds needs "
            "the same prompts in each of them"
        )
    squares = _squares(scores, of_seed), _squares(scores, of_prompt), _squares(scores, of_cell)
    by_seed = squares[0] * seed_count / (seed_count - 1)
    if prompt_count == 1:
        return Spread(by_seed, 0.0, 0.0, seed_count, 1)
    # sums of squares / (cells)^2; an average seed has cells / S prompts
    rest = squares[2] - squares[0] * seed_count / cells - squares[1] * prompt_count / cells
    free = (seed_count - 1) * (prompt_count - 1)
    both = max(rest, 0.0) * seed_count * prompt_count / free
    return Spread(by_seed, by_prompt, both, seed_count, prompt_count)


def clustered_spread(
    values: Float[Array, " n"],
    prompts: Int[Array, " n"],
    seeds: Int[Array, " n"] | None = None,
    *,
    scale: float = 1.0,
) -> Spread:
    """Returns `spread_of` with one trial more; see the head of this file.

    Args:
        values, prompts, seeds: as for `spread_of`.
        scale: how far a clip can lie off.
    """
    spread = spread_of(values, prompts, seeds)
    return spread.with_trials((scale * spread.seeds / len(values)) ** 2)


def clustered_mean(
    values: Float[Array, " n"],
    prompts: Int[Array, " n"],
    seeds: Int[Array, " n"] | None = None,
    *,
    level: float = LEVEL,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Interval:
    """Returns the mean over all clips with its t interval, truncated to `bounds`; for differences.

    Args:
        values: one number a clip, within `bounds`.
        prompts: cluster of each clip. With a single one the interval is `bounds`.
        seeds: training seed of each clip; with only one, the interval is over prompts alone.
        level: of the interval.
        bounds: smallest and largest possible value; a clip can lie off by half of their distance.

    Raises:
        ValueError: as `spread_of`.
    """
    spread = clustered_spread(values, prompts, seeds, scale=(bounds[1] - bounds[0]) / 2)
    mean, half = float(np.mean(values, dtype=np.float64)), float(spread.half_width(level))
    return Interval(mean, max(bounds[0], mean - half), min(bounds[1], mean + half))


def clustered_rate(
    values: Float[Array, " n"],
    prompts: Int[Array, " n"],
    seeds: Int[Array, " n"] | None = None,
    *,
    level: float = LEVEL,
) -> Interval:
    """Returns a rate with Wilson's interval of the effective number of clips.

    Args:
        values: one number a clip, within [0, 1]: 0 or 1, or a tie's 1/2.
        prompts: cluster of each clip.
        seeds: training seed of each clip; with only one, the interval is over prompts alone.
        level: of the interval.

    Raises:
        ValueError: as `spread_of`.
    """
    spread = spread_of(values, prompts, seeds)
    mean, n = float(np.mean(values, dtype=np.float64)), len(values)
    spread = spread.with_trials(_Z2 / (n * spread.prompts))
    binomial = mean * (1 - mean) / n
    effect = spread.variance / (binomial + _Z2 / n**2)
    freedom = spread.freedom if spread.prompts > 1 else np.inf
    t2n = float(special.stdtrit(freedom, (1 + level) / 2)) ** 2 * effect / n
    middle = (mean + t2n / 2) / (1 + t2n)
    half = np.sqrt(t2n * (mean * (1 - mean) + t2n / 4)) / (1 + t2n)
    return Interval(mean, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def _squares(scores: np.ndarray, codes: np.ndarray) -> float:
    return float(np.square(np.bincount(codes, scores)).sum())


def _codes(clusters: np.ndarray) -> tuple[np.ndarray, int]:
    """Clusters as numbers from 0 on, and how many there are."""
    codes = np.unique(clusters, return_inverse=True)[1]
    return codes, int(codes.max()) + 1
