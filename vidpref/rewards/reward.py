"""Who judges a clip: the protocol of all rewards."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from vidpref.typing import Array, Float, UInt8


@runtime_checkable
class Reward(Protocol):
    """A judge of clips.

    Attributes:
        dimensions: the names of what it judges, the keys of `score`.
    """

    dimensions: tuple[str, ...]

    def score(
        self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]
    ) -> dict[str, Float[Array, " b"]]:
        """One number a clip and dimension; higher is better."""
        ...
