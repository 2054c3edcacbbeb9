"""What a metric says of clips."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from vidpref.typing import Array, Float, UInt8


@dataclasses.dataclass(frozen=True)
class Measured:
    """Values of b clips.

    Attributes:
        values: one a clip, nan where there is none.
        of: what they add up over, in words.
        failures: row of each clip without a value -> why.
    """

    values: Float[np.ndarray, " b"]
    of: str
    failures: Mapping[int, str] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Metric(Protocol):
    """Measures clips by a network, which lies on the devices of this process."""

    def __call__(self, clips: UInt8[Array, "b t h w 3"], prompts: Sequence[str]) -> Measured:
        """Returns the values of clips."""
        ...
