"""What a clip must satisfy. Every rule is a number and its limit; limits leave room for the noise
and softness of generated clips, see tests/rewards/test_verifier.py for what they let through."""

import dataclasses

import numpy as np

from vidpref.rewards.verifier.fitting import Fit
from vidpref.typing import Array, Float, Int

# In the order in which they are tried and named; the first is the verdict of a good clip.
RULES = (
    "accepted",
    "start: an object is not where the action begins",
    "sight: an object is missing, faded or too large in some frame",
    "path: the motion is not the one asked for",
    "shape: an object looks more like another shape",
    "pixels: something is left that the objects and the furniture do not explain",
    "noise: the pixels are too noisy",
)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One number per clip and rule, in units of the rule's limit: above 1 it fails."""

    start: Float[Array, " n"]
    sight: Float[Array, " n"]
    path: Float[Array, " n"]
    shape: Float[Array, " n"]
    pixels: Float[Array, " n"]
    noise: Float[Array, " n"]


LIMITS = {
    "start": 1.2,  # pixels
    "sight": 0.4,  # of the object's area
    "shape": 1.0,  # squared error over that of another shape, in two frames
    "shape once": 2.0,  # the same, in one frame
    "pixels": 0.24,  # of [0, 1], mean over 3x3 pixels
    "pixels of contrast": 0.27,  # the same, of the difference between object and background
    "noise": 0.11,  # of [0, 1], root mean square
}


def pixels_limit(contrast: Float[Array, " n"]) -> Float[Array, " n"]:
    """What may be left unexplained; less where the object hardly stands out."""
    return np.minimum(LIMITS["pixels"], LIMITS["pixels of contrast"] * contrast)


def _neighbours(x: np.ndarray, axis: int) -> np.ndarray:
    """The value a frame before, now and a frame after, stacked in front."""
    last = x.shape[axis] - 1
    index = np.arange(last + 1)
    return np.stack([np.take(x, np.clip(index + step, 0, last), axis=axis) for step in (-1, 0, 1)])


def _path_error(state: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Distance to the path asked for, a frame early or late allowed: [n, o, t]."""
    moved, path = state - state[:, :, :1], wanted - wanted[:, :, :1]
    before, now, after = _neighbours(path, axis=2)
    error = np.full(moved.shape[:-1], np.inf)
    for a, b in ((before, now), (now, after)):
        along = b - a
        length = np.maximum((along**2).sum(-1), 1e-6)
        fraction = np.clip(((moved - a) * along).sum(-1) / length, 0, 1)
        error = np.minimum(error, np.linalg.norm(moved - a - fraction[..., None] * along, axis=-1))
    return error


def _path_limit(wanted: np.ndarray) -> np.ndarray:
    travel = np.linalg.norm(wanted - wanted[:, :, :1], axis=-1).max(-1)
    return np.where(travel < 0.5, 0.9, np.clip(0.25 * travel, 0.4, 1.5))


def weigh(found: Fit) -> Evidence:
    """The evidence against the clips of a fit."""
    tracked, wanted, mass = found.tracked, found.wanted, found.wanted_mass
    around = _neighbours(mass, axis=2)
    sight = np.maximum(around.min(0) - tracked.mass, tracked.mass - around.max(0))
    seen = tracked.mass[:, :, 0] > 0.3
    start = np.linalg.norm(tracked.state[:, :, 0] - wanted[:, :, 0], axis=-1)
    start = np.where(seen, start, np.inf).max(1)
    path = _path_error(tracked.state, wanted).max(2) / _path_limit(wanted)
    # One doubtful frame is forgiven, one that is plainly another shape is not.
    ratio = np.sort(found.misfit.shape, axis=2)
    ratio = np.maximum(ratio[:, :, -2], ratio[:, :, -1] / LIMITS["shape once"]).max(1)
    return Evidence(
        start=start / LIMITS["start"],
        sight=sight.max((1, 2)) / LIMITS["sight"],
        path=path.max(1),
        shape=ratio / LIMITS["shape"],
        pixels=found.misfit.pixels.max(1) / pixels_limit(found.contrast),
        noise=np.sqrt((found.misfit.noise**2).mean(1)) / LIMITS["noise"],
    )


def first_failure(evidence: Evidence) -> Int[Array, " n"]:
    """Index into `RULES` of the first rule that fails, 0 where none does."""
    values = np.stack([getattr(evidence, f.name) for f in dataclasses.fields(evidence)], 1)
    failed = ~(values <= 1)
    return np.where(failed.any(1), failed.argmax(1) + 1, 0)
