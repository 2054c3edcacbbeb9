"""VBench's formulas of single clips (Huang et al. 2024; code at 45e79ec), after the networks."""

import itertools

import numpy as np

from vidpref.typing import Array, Float, UInt8

DYNAMIC_FPS = 8  # frames a second that dynamic degree looks at


def temporal_flickering(frames: UInt8[Array, "t h w 3"]) -> float:
    """Returns (255 - d) / 255, d the mean absolute difference of successive frames.

    VBench measures it of clips whose prompts ask for a still scene.

    Raises:
        ValueError: a single frame.
    """
    frames = np.asarray(frames).astype(np.int16)
    _check_several(len(frames))
    differences = [np.abs(b - a).mean() for a, b in itertools.pairwise(frames)]
    return float((255.0 - np.mean(differences)) / 255.0)


def consistency(features: Float[Array, "t d"]) -> float:
    """Returns how much frames look like the one before and like the first.

    It is the mean, over all frames but the first, of the mean of both cosines, each not below 0.
    With DINO's features it is subject consistency, with CLIP's background consistency.

    Raises:
        ValueError: a single frame, or a feature without a direction.
    """
    features = np.asarray(features, np.float64)
    _check_several(len(features))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a feature has no direction")
    features = features / lengths
    before = (features[1:] * features[:-1]).sum(axis=1)
    first = features[1:] @ features[0]
    return float(np.mean(np.maximum(before, 0.0) + np.maximum(first, 0.0)) / 2)


def dynamic_frames(count: int, fps: float) -> range:
    """Returns the numbers of the frames, about `DYNAMIC_FPS` a second, between which flow counts.

    Args:
        count: frames of the clip.
        fps: frames a second.
    """
    return range(0, count, max(1, round(fps / DYNAMIC_FPS)))


def is_dynamic(speeds: Float[Array, " pairs"], height: int, width: int) -> bool:
    """Returns whether enough pairs of frames move fast enough: dynamic degree is the share of such.

    A pair is fast above 6 pixels, and a quarter of the frames must be: 4 of 16. Of 2 frames none
    need be, so that such a clip always counts as moving, as in VBench.

    Args:
        speeds: mean norm of the flow over the 5 % of pixels that move most, of successive frames.
        height, width: of the frames; 6 pixels are meant for a shorter side of 256.
    """
    speeds = np.asarray(speeds)
    _check_several(len(speeds) + 1)
    fast = int((speeds > 6.0 * (min(height, width) / 256.0)).sum())
    return fast >= round(4 * ((len(speeds) + 1) / 16.0))


def _check_several(frames: int) -> None:
    if frames < 2:
        raise ValueError("a clip of one frame has no changes between frames")
