"""What a clip must satisfy. Every rule is a number and its limit; limits leave room for the noise
and softness of generated clips, see tests/rewards/test_verifier.py for what they let through."""

import dataclasses
import functools

import numpy as np

from vidpref.datasets.miniworld.actions import ACTIONS, FRAMES, JITTER, SIZE, tracks
from vidpref.datasets.miniworld.rendering import coverage, wall_mask
from vidpref.datasets.miniworld.vocabulary import SHAPES
from vidpref.rewards.verifier.tracking import CENTROID, EXTENTS, Tracked, track
from vidpref.rewards.verifier.unmixing import box_mean
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


@functools.cache
def nominal(action: str, shapes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """States [o, t, 3] and masses [o, t] that the tracker reads off the clip without jitter."""
    behind = ACTIONS[action].behind_wall
    share = np.zeros((len(shapes), FRAMES, SIZE, SIZE), np.float32)
    for piece in tracks(action, tuple(SHAPES[i] for i in shapes), np.zeros(JITTER)):
        kind = np.full(FRAMES, shapes[piece.owner])
        cover = coverage(piece.box, kind, np.full(FRAMES, piece.side))
        share[piece.owner] += cover * (1 - wall_mask()) if behind else cover
    tracked = track(action, share[None], np.array([shapes]))
    return tracked.state[0], tracked.mass[0]


def _nominals(action: str, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kinds, which = np.unique(shape, axis=0, return_inverse=True)
    found = [nominal(action, tuple(int(i) for i in kind)) for kind in kinds]
    which = which.ravel()
    return np.stack([s for s, _ in found])[which], np.stack([m for _, m in found])[which]


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


def _shape_error(share: np.ndarray, tracked: Tracked, shape: np.ndarray, behind: bool):
    """Squared error of the shape asked for over that of the best other one, a frame: [n, o, t]."""
    n, objects, frames = tracked.mass.shape
    ratio = tracked.box[..., 2:] / EXTENTS[tracked.shape][:, :, None]
    foot = tracked.box[..., 1] - CENTROID[tracked.shape][:, :, None] * tracked.box[..., 3]
    errors = []
    for step in range(len(SHAPES)):
        other = (tracked.shape + step) % len(SHAPES)
        box = tracked.box.copy()
        box[..., 2:] = EXTENTS[other][:, :, None] * ratio
        box[..., 1] = foot + CENTROID[other][:, :, None] * box[..., 3]
        kind = np.broadcast_to(other[:, :, None], box.shape[:-1])
        side = np.broadcast_to(tracked.side[None, :, None], box.shape[:-1])
        cover = coverage(box.reshape(-1, 4), kind.ravel(), side.ravel(), rows=2)
        cover = cover.reshape(n, -1, frames, SIZE, SIZE)
        if cover.shape[1] != objects:
            cover = cover.sum(1, keepdims=True)
        if behind:
            cover = cover * (1 - wall_mask())
        errors.append(((share - cover) ** 2).sum((-1, -2)))
    own, *others = errors
    return np.where(tracked.mass > 0.6, own / (np.minimum(*others) + 1e-3), 0)


def weigh(
    action: str,
    shape: Int[Array, "n o"],
    share: Float[Array, "n o t h w"],
    tracked: Tracked,
    residual: Float[Array, "n t h w c"],
    contrast: Float[Array, " n"],
) -> Evidence:
    """The evidence against n clips of one action.

    Args:
        contrast: distance in colour between the background and the object most like it.
        residual: clip minus what the fitted pieces explain, of [0, 1].
    """
    wanted, mass = _nominals(action, shape)
    around = _neighbours(mass, axis=2)
    sight = np.maximum(around.min(0) - tracked.mass, tracked.mass - around.max(0))
    seen = tracked.mass[:, :, 0] > 0.3
    start = np.linalg.norm(tracked.state[:, :, 0] - wanted[:, :, 0], axis=-1)
    start = np.where(seen, start, np.inf).max(1)
    path = _path_error(tracked.state, wanted).max(2) / _path_limit(wanted)
    ratio = _shape_error(share, tracked, shape, ACTIONS[action].behind_wall)
    # One doubtful frame is forgiven, one that is plainly another shape is not.
    ratio = np.sort(ratio, axis=2)
    ratio = np.maximum(ratio[:, :, -2], ratio[:, :, -1] / LIMITS["shape once"]).max(1)
    smooth = box_mean(np.moveaxis(residual, -1, 2))
    pixels = np.sqrt((smooth**2).sum(2).max((1, 2, 3)))
    noise = np.sqrt((residual**2).mean((1, 2, 3, 4)))
    return Evidence(
        start=start / LIMITS["start"],
        sight=sight.max((1, 2)) / LIMITS["sight"],
        path=path.max(1),
        shape=ratio / LIMITS["shape"],
        pixels=pixels / np.minimum(LIMITS["pixels"], LIMITS["pixels of contrast"] * contrast),
        noise=noise / LIMITS["noise"],
    )


def first_failure(evidence: Evidence) -> Int[Array, " n"]:
    """Index into `RULES` of the first rule that fails, 0 where none does."""
    values = np.stack([getattr(evidence, f.name) for f in dataclasses.fields(evidence)], 1)
    failed = ~(values <= 1)
    return np.where(failed.any(1), failed.argmax(1) + 1, 0)
