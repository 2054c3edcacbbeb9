"""What a clip must satisfy. Every rule is a number and its limit; limits leave room for the noise
and softness of generated clips, see tests/rewards/test_verifier.py for what they let through."""

import dataclasses

import numpy as np

from vidpref.rewards.verifier.fitting import Fit
from vidpref.rewards.verifier.leftover import (
    detail_error,
    first_frame_error,
    furniture_error,
    leftover,
)
from vidpref.rewards.verifier.progress import (
    MOVING,
    along_path,
    bend_of_fall,
    end_error,
    falls_back,
    longest_leap,
    missing_end,
    off_beat,
    travel,
)
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
    "order: the action goes back, leaps, is late, or falls without gaining speed",
    "smoothness: the motion jumps or shakes",
    "end: an object does not come to rest where it should",
    "size: an object is too large, too small or too faint all along",
    "colour: an object is not of one colour, or of another one than asked for",
    "stray: a spot or a faint shape belongs to nothing",
    "tint: the colours of the whole picture are off",
    "furniture: a part of the furniture is missing",
    "first frame: an object is elsewhere in the frame that was given",
    "detail: at their own size the pixels are not those of the objects",
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
    order: Float[Array, " n"]
    smoothness: Float[Array, " n"]
    end: Float[Array, " n"]
    size: Float[Array, " n"]
    colour: Float[Array, " n"]
    stray: Float[Array, " n"]
    tint: Float[Array, " n"]
    furniture: Float[Array, " n"]
    first_frame: Float[Array, " n"]
    detail: Float[Array, " n"]


LIMITS = {
    "start": 1.2,  # pixels
    "sight": 0.4,  # of the object's area
    "shape": 1.0,  # squared error over that of another shape, in two frames
    "shape once": 2.0,  # the same, in one frame
    "pixels": 0.24,  # of [0, 1], mean over 3x3 pixels
    "pixels of contrast": 0.27,  # the same, of the difference between object and background
    "noise": 0.085,  # of [0, 1], root mean square
    "back": 0.15,  # of the path
    "late": 0.2,  # of the path, mean over time
    "leap": 0.25,  # of the path, in one step beyond the nominal one
    "fall": 0.45,  # of the bend of a thing that falls from rest, at least
    "motion quality": 0.5,  # at least
    "end": 0.75,  # pixels
    "end at rest": 0.4,  # the same, of an object that is not to move
    "short": 0.18,  # of the path
    "size": 0.14,  # of the object's area, median over time
    # Norms over colours of [0, 1], see `Leftover`.
    "inside": 0.2,
    "spot": 0.5,
    "pixel": 0.48,
    "patch": 0.16,
    "lasting": 0.085,
    "lasting pixel": 0.48,
    "lasting patch": 0.13,
    "tint": 0.04,
    "furniture": 0.45,  # of its contrast
    "first frame": 0.4,  # pixels
    "detail": 0.11,  # of [0, 1], root mean square
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
    far = travel(wanted)
    return np.where(far < MOVING, 0.9, np.clip(0.25 * far, 0.4, 1.5))


def _size(found: Fit) -> np.ndarray:
    """Median over time of the area that is too much or missing, while all should be in sight."""
    whole = found.wanted_mass > 0.6
    error = np.where(whole, found.tracked.mass - found.wanted_mass, np.nan)
    return np.abs(np.nanmedian(error, 2)).max(1)


def weigh(
    found: Fit,
    motion_quality: Float[Array, " n"],
    *,
    given: Float[Array, "n h w c"] | None = None,
    large: Float[Array, "n t grid grid c"] | None = None,
) -> Evidence:
    """The evidence against the clips of a fit.

    Args:
        found: the fit.
        motion_quality: of `motion`.
        given: first frames that the clips should have, of [0, 1]; None where none were given.
        large: the clips at their own size of 32x32, where they are larger than 16x16.
    """
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
    left, none = leftover(found), np.zeros(len(mass), np.float32)
    progress, nominal = along_path(found)
    away, astray = end_error(found)
    order = (
        falls_back(progress) / LIMITS["back"],
        off_beat(progress, nominal) / LIMITS["late"],
        longest_leap(progress, nominal) / LIMITS["leap"],
        LIMITS["fall"] / np.maximum(bend_of_fall(found, progress), 1e-3),
    )
    end = (
        away / LIMITS["end"],
        astray / LIMITS["end at rest"],
        missing_end(progress) / LIMITS["short"],
    )
    stray = (
        left.pixel / LIMITS["pixel"],
        left.patch / LIMITS["patch"],
        left.lasting / LIMITS["lasting"],
        left.lasting_pixel / LIMITS["lasting pixel"],
        left.lasting_patch / LIMITS["lasting patch"],
    )
    return Evidence(
        start=start / LIMITS["start"],
        sight=sight.max((1, 2)) / LIMITS["sight"],
        path=path.max(1),
        shape=ratio / LIMITS["shape"],
        pixels=found.misfit.pixels.max(1) / pixels_limit(found.contrast),
        noise=np.sqrt((found.misfit.noise**2).mean(1)) / LIMITS["noise"],
        order=np.max(order, 0),
        smoothness=LIMITS["motion quality"] / np.maximum(motion_quality, 1e-3),
        end=np.max(end, 0),
        size=_size(found) / LIMITS["size"],
        colour=np.maximum(left.inside / LIMITS["inside"], left.spot / LIMITS["spot"]),
        stray=np.max(stray, 0),
        tint=left.tint / LIMITS["tint"],
        furniture=furniture_error(found) / LIMITS["furniture"],
        first_frame=none
        if given is None
        else first_frame_error(found, given) / LIMITS["first frame"],
        detail=none if large is None else detail_error(found, large) / LIMITS["detail"],
    )


def first_failure(evidence: Evidence) -> Int[Array, " n"]:
    """Index into `RULES` of the first rule that fails, 0 where none does."""
    values = np.stack([getattr(evidence, f.name) for f in dataclasses.fields(evidence)], 1)
    failed = ~(values <= 1)
    return np.where(failed.any(1), failed.argmax(1) + 1, 0)
