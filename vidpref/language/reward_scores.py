"""Scores of a reward model on one scale: less a mean, over a deviation, of clips it did not see."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from vidpref.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of the raw scores of some clips, by dimension.

    Attributes:
        mean: a number by dimension.
        std: likewise, above 0.
        of: which clips they are of, in words.

    Raises:
        ValueError: other dimensions in one than in the other, or a number that cannot be.
    """

    mean: Mapping[str, float]
    std: Mapping[str, float]
    of: str = ""

    def __post_init__(self):
        if self.mean.keys() != self.std.keys():
            raise ValueError(
                f"means are of {', '.join(self.mean)}, deviations of {', '.join(self.std)}"
            )
        for name in self.mean:
            if not (math.isfinite(self.mean[name]) and 0 < self.std[name] < math.inf):
                raise ValueError(
                    f"scores of {name} cannot be normalised by the mean {self.mean[name]:g} and "
                    f"the deviation {self.std[name]:g}"
                )

    @classmethod
    def fit(cls, scores: Mapping[str, Float[Array, " n"]], of: str) -> "Normalisation":
        """Returns what gives these scores mean 0 and deviation 1 (that of the n scores themselves).

        Args:
            scores: raw scores by dimension.
            of: which clips they are of, in words.

        Raises:
            ValueError: fewer than two scores, or scores that are all equal or not finite.
        """
        wide = {name: np.asarray(values, np.float64) for name, values in scores.items()}
        short = [name for name, values in wide.items() if len(values) < 2]
        if short:
            raise ValueError(
                f"{len(wide[short[0]])} scores of {of} say nothing about their spread: give 2 or "
                "more clips to normalise by"
            )
        mean = {name: float(values.mean()) for name, values in wide.items()}
        std = {name: float(values.std()) for name, values in wide.items()}
        return cls(mean, std, of)

    def __call__(self, scores: Mapping[str, Float[Array, " n"]]) -> dict[str, np.ndarray]:
        """Returns normalised scores of the same dimensions, in float32."""
        return {
            name: ((np.asarray(values, np.float64) - self.mean[name]) / self.std[name]).astype(
                np.float32
            )
            for name, values in scores.items()
        }

    def __str__(self) -> str:
        numbers = (f"{n} {self.mean[n]:.4f}/{self.std[n]:.4f}" for n in self.mean)
        return f"mean/deviation of {self.of or 'unnamed clips'}: {', '.join(numbers)}"
