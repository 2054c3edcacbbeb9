"""Who judges a clip, and what a judge says: the protocol of all rewards."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from vidpref.typing import Array, Float, UInt8


class JudgeError(RuntimeError):
    """Clips without a verdict; the message counts and names them with what went wrong."""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a judge says of b clips.

    Attributes:
        scores: a number a clip by dimension, the higher the better; nan where a clip got none.
        reasons: the judge's words on each clip, "" where it has none.
        failures: row of each clip without a verdict in every dimension -> what went wrong.

    Raises:
        ValueError: not a score and a reason a clip, or a nan of a clip that is no failure.
    """

    scores: Mapping[str, Float[Array, " b"]]
    reasons: Sequence[str]
    failures: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, scores in self.scores.items():
            if len(scores) != len(self.reasons):
                raise ValueError(f"{len(scores)} scores of {name!r}, {len(self.reasons)} reasons")
            silent = set(np.flatnonzero(np.isnan(scores)).tolist()) - set(self.failures)
            if silent:
                raise ValueError(f"{name!r} of row {min(silent)} is nan, which no failure explains")


@runtime_checkable
class Reward(Protocol):
    """A judge of clips; `str` of it is what errors call it.

    Attributes:
        dimensions: the names of what it judges, the keys of `Judgement.scores`.
    """

    dimensions: tuple[str, ...]

    def score(self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]) -> Judgement:
        """Judges clips by their prompts. A clip without a verdict is a failure, never an error."""
        ...


def complaint(judge: Reward, judgement: Judgement, names: Sequence[str]) -> str:
    """Returns how many clips got no verdict, what went wrong most often, and a line on each clip.

    Args:
        judge: the judge.
        judgement: with failures.
        names: how to call each clip.
    """
    most, times = Counter(judgement.failures.values()).most_common(1)[0]
    lines = [f"  {names[row]}: {words}" for row, words in sorted(judgement.failures.items())]
    return (
        f"{len(lines)} of {len(judgement.reasons)} clips got no verdict from {judge} "
        f"({times} times: {most}):\n" + "\n".join(lines)
    )
