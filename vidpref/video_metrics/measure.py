"""What measures take, and what they give."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from vidpref.typing import UInt8


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip as it lies in its file.

    Attributes:
        frames: all of its frames.
        fps: frames a second.
        prompt: what it was made for; "" where that is not known.
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    fps: float
    prompt: str = ""


@runtime_checkable
class Measure(Protocol):
    """Something that is measured of every clip by itself.

    Attributes:
        name: a word for messages and folders.
        causes: what values depend on besides the clip: settings, and digests of weights.
        of_prompt: whether they depend on the prompt.
    """

    name: str
    causes: dict[str, object]
    of_prompt: bool

    def why_not(self, clip: Clip) -> str:
        """Returns why a clip cannot be measured, in words; "" if it can."""
        ...

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the values of each clip, float32 of one shape but for the number of frames."""
        ...


def first_frames(clip: Clip, count: int, stride: int) -> UInt8[np.ndarray, "t h w 3"]:
    """Returns the first frames of a clip, `stride` apart, as many as there are up to `count`."""
    return clip.frames[: (count - 1) * stride + 1 : stride]


def too_few(clip: Clip, count: int, stride: int) -> str:
    """Returns in words that a clip has too few frames, `stride` apart; "" if it has enough."""
    needed = (count - 1) * stride + 1
    apart = f", {stride} apart" if stride > 1 else ""
    here = len(clip.frames)
    return f"too_short: {here} frames, and {count}{apart} are needed" if here < needed else ""


def single(clip: Clip) -> str:
    """Returns in words that a clip has one frame, between whose frames nothing changes; or ""."""
    return "too_short: a single frame is a picture, not a video" if len(clip.frames) < 2 else ""
