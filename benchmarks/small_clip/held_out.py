"""What a small CLIP says of prompts that it did not learn from."""

from collections.abc import Sequence

import numpy as np

from vidpref.interop.clip_folders import ClipFolder
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.rewards.metrics.text_image import TextImageMetric
from vidpref.typing import Float, UInt8

_AT_ONCE = 256


def cosines_of(
    folder: ClipFolder, clips: UInt8[np.ndarray, "b t h w 3"], texts: Sequence[str]
) -> Float[np.ndarray, "b t n"]:
    """Returns the cosine of every frame and text, as the reward's own code has it."""
    model = ClipFrames(folder, fit="crop", frames=0, batch_size=_AT_ONCE, dtype="float32")
    return np.einsum("btd,nd->btn", model.images(clips), model.texts(folder.tokens()(texts)))


def scores_of(
    folder: ClipFolder, clips: UInt8[np.ndarray, "n 2 t h w 3"], texts: Sequence[str]
) -> Float[np.ndarray, "n 2"]:
    """Returns the metric of both clips of each text's pair."""
    model = ClipFrames(folder, fit="crop", frames=0, batch_size=_AT_ONCE, dtype="float32")
    metric = TextImageMetric(model, folder.tokens())
    sides = [metric(clips[:, side], texts).values for side in range(2)]
    return np.stack(sides, axis=1)


def retrieval(cosines: Float[np.ndarray, "n t n"]) -> dict[str, float]:
    """Returns how often what belongs together has the largest cosine, of n clips of n prompts.

    Returns:
        "frame": a frame's prompt among all, the mean over times; "last frame": likewise of the
        last; "clip": a clip's prompt, by the sum over its frames; "prompt": a prompt's clip.
    """
    own = np.arange(len(cosines))
    frames = cosines.argmax(axis=2) == own[:, None]
    clips = cosines.sum(axis=1)
    return {
        "frame": float(frames.mean()),
        "last frame": float(frames[:, -1].mean()),
        "clip": float((clips.argmax(axis=1) == own).mean()),
        "prompt": float((clips.argmax(axis=0) == own).mean()),
    }


def ordered_right(scores: Float[np.ndarray, "n 2"], preferred: Float[np.ndarray, "n 2"]) -> float:
    """Returns the share of the pairs with a winner whose winner scores more; equal ones are half
    right."""
    decided = preferred[:, 0] != preferred[:, 1]
    found = np.sign(scores[:, 0] - scores[:, 1]) * np.sign(preferred[:, 0] - preferred[:, 1])
    return float((0.5 + 0.5 * found[decided]).mean())
