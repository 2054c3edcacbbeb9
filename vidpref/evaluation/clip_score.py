"""CLIP score of a clip: how well its frames go with its prompt (CLIPSIM, Wu et al. 2021)."""

import numpy as np

from vidpref.typing import Array, Float


def clip_score(frames: Float[Array, "n d"], prompt: Float[Array, " d"]) -> float:
    """Returns the mean cosine, within [-1, 1], of the directions of frames and of a prompt.

    It is the mean that the reward of `rewards/metrics` is the sum of. Some programs print a
    hundred times as much.

    Args:
        frames: CLIP's embeddings of a clip's frames, of any length above 0.
        prompt: that of its prompt.

    Raises:
        ValueError: no frames, or an embedding without a direction.
    """
    frames, prompt = np.asarray(frames, np.float64), np.asarray(prompt, np.float64)
    if not len(frames):
        raise ValueError("a clip without frames has no CLIP score")
    lengths = np.linalg.norm(frames, axis=1) * np.linalg.norm(prompt)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("an embedding has no direction")
    return float(np.mean(frames @ prompt / lengths))
