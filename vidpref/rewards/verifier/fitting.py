"""Fits the pieces of an action to clips: where they are, and what they leave unexplained.

Everything is measured frame by frame and nothing is judged; that is for `rules` and `dimensions`.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from vidpref.datasets.miniworld.actions import ACTIONS, FRAMES, JITTER, SIZE, pan, tracks
from vidpref.datasets.miniworld.rendering import (
    BACKGROUND,
    backdrop,
    coverage,
    furniture_cover,
    panorama,
    wall_mask,
)
from vidpref.datasets.miniworld.vocabulary import COLOURS, SHAPES, Meaning
from vidpref.rewards.verifier.panning import measure_shift
from vidpref.rewards.verifier.tracking import CENTROID, EXTENTS, Tracked, free_boxes, track
from vidpref.rewards.verifier.unmixing import (
    box_mean,
    furniture_edges,
    ignore_soft_furniture,
    outline,
    unmix,
)
from vidpref.typing import Array, Float, Int

_STANDING = slice(6, 14)  # rows of the hall between banners and tiles


@dataclasses.dataclass(frozen=True)
class Misfit:
    """What pieces do not explain.

    Attributes:
        shape: squared error of the shape asked for over that of the best other one.
        pixels: largest difference to the pieces, mean over 3x3 pixels, of [0, 1].
        noise: root mean square of the difference to the pieces, of [0, 1].
    """

    shape: Float[Array, "n o t"]
    pixels: Float[Array, "n t"]
    noise: Float[Array, "n t"]


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is seen in n clips of one action.

    Attributes:
        action: the one their prompts ask for.
        materials: materials of the furniture.
        colours, shape: colours and shape of the objects asked for; colours of [0, 1], index into
            `SHAPES`.
        clips: clips in [0, 1].
        stage: the clips without objects.
        share: share of every pixel, by object.
        tracked: the pieces found.
        cover: how much of every pixel each piece covers.
        residual: the clips without all that the pieces and the stage explain.
        wanted, wanted_mass: `tracked.state` and `tracked.mass` of the clip without jitter.
        misfit: what the pieces leave open.
    """

    action: str
    materials: list[str]
    colours: Float[Array, "n o c"]
    shape: Int[Array, "n o"]
    clips: Float[Array, "n t h w c"]
    stage: Float[Array, "n t h w c"]
    share: Float[Array, "n o t h w"]
    tracked: Tracked
    cover: Float[Array, "n p t h w"]
    residual: Float[Array, "n t h w c"]
    wanted: Float[Array, "n o t 3"]
    wanted_mass: Float[Array, "n o t"]
    misfit: Misfit

    @property
    def contrast(self) -> Float[Array, " n"]:
        """Distance in colour between the background and the object most like it."""
        away = self.colours - np.float32(BACKGROUND) / 255
        return np.linalg.norm(away, axis=-1).min(1)


@functools.cache
def nominal(action: str, shapes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """States [o, t, 3] and masses [o, t] that the tracker reads off the clip without jitter."""
    behind = ACTIONS[action].behind_wall
    share = np.zeros((len(shapes), FRAMES, SIZE, SIZE), np.float32)
    for piece in tracks(action, tuple(SHAPES[i] for i in shapes), np.zeros(JITTER)):
        kind = np.full(FRAMES, shapes[piece.owner])
        cover = coverage(piece.box, kind, np.full(FRAMES, piece.side))
        share[piece.owner] += cover * (1 - wall_mask()) if behind else cover
    shift = pan(action, np.zeros(JITTER))
    shift = np.zeros(FRAMES, np.float32) if shift is None else shift
    tracked = track(action, share[None], np.array([shapes]), shift[None])
    return tracked.state[0], tracked.mass[0]


def _nominals(action: str, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kinds, which = np.unique(shape, axis=0, return_inverse=True)
    found = [nominal(action, tuple(int(i) for i in kind)) for kind in kinds]
    which = which.ravel()
    return np.stack([s for s, _ in found])[which], np.stack([m for _, m in found])[which]


def _shares(
    clips: np.ndarray, stage: np.ndarray, colours: np.ndarray, edges: np.ndarray, materials: list
) -> np.ndarray:
    """Of each colour in every pixel [n, o, t, h, w]; `stage` [n, h, w, c] is the same all along."""
    difference, directions = clips - stage[:, None], colours[:, :, None, None] - stage[:, None]
    if all(materials):
        difference, directions = ignore_soft_furniture(difference, directions, edges, materials)
    return unmix(difference, directions)


def _panned_shares(
    clips: np.ndarray, stage: np.ndarray, colours: np.ndarray, cover: np.ndarray, materials: list
) -> np.ndarray:
    """The same for stages [n, t, h, w, c] that move: every frame is a clip of its own."""
    n, frames = clips.shape[:2]
    share = _shares(
        clips.reshape(n * frames, 1, *clips.shape[2:]),
        stage.reshape(n * frames, *stage.shape[2:]),
        colours.repeat(frames, 0),
        outline(cover),
        [m for m in materials for _ in range(frames)],
    )
    share = np.moveaxis(share[:, :, 0].reshape(n, frames, -1, SIZE, SIZE), 2, 1)
    # Elsewhere objects and furniture of like colours are hard to tell apart, and nothing is lost:
    # whatever does not belong there stays unexplained.
    share[..., : _STANDING.start, :] = share[..., _STANDING.stop :, :] = 0
    return share


def draw(
    stage: Float[Array, "n t grid grid c"],
    tracked: Tracked,
    colours: Float[Array, "n o c"],
    *,
    behind_wall: bool,
) -> tuple[Float[Array, "n t grid grid c"], Float[Array, "n p t grid grid"]]:
    """What the clip would be if the fitted pieces were all of it, and what each piece covers."""
    (n, pieces, frames, _), grid = tracked.box.shape, stage.shape[2]
    shape = np.broadcast_to(tracked.shape[:, :, None], (n, pieces, frames))
    side = np.broadcast_to(tracked.side[None, :, None], (n, pieces, frames))
    cover = coverage(tracked.box.reshape(-1, 4), shape.ravel(), side.ravel(), grid=grid, rows=2)
    cover = cover.reshape(n, pieces, frames, grid, grid)
    if behind_wall:
        cover *= 1 - wall_mask(grid)
    picture = np.array(stage)
    for piece in range(pieces):
        owner = min(piece, colours.shape[1] - 1)
        colour = colours[:, owner, None, None, None]
        picture += cover[:, piece, ..., None] * (colour - picture)
    return picture, cover


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


def _misfit(residual, share, shape, tracked: Tracked, behind_wall: bool) -> Misfit:
    smooth = box_mean(np.moveaxis(residual, -1, 2))
    return Misfit(
        shape=_shape_error(share, tracked, shape, behind_wall),
        pixels=np.sqrt((smooth**2).sum(2).max((2, 3))),
        noise=np.sqrt((residual**2).mean((2, 3, 4))),
    )


def fit(action: str, clips: Float[Array, "n t h w c"], meanings: Sequence[Meaning]) -> Fit:
    """Fits the pieces of one action.

    Args:
        action: action of all the meanings.
        clips: at 16x16 pixels, of [0, 1].
        meanings: meanings of their prompts.
    """
    spec, (n, frames) = ACTIONS[action], clips.shape[:2]
    materials = [m.material for m in meanings]
    colours = np.float32([[COLOURS[c] for c, _ in m.objects] for m in meanings]) / 255
    shape = np.array([[SHAPES.index(s) for _, s in m.objects] for m in meanings])
    shift = np.zeros((n, frames), np.float32)
    if spec.pan:
        shift = measure_shift(clips, spec.furniture, materials)
        stage = panorama(spec.furniture, materials, shift) / np.float32(255)
        cover = furniture_cover(spec.furniture, shift.ravel())
        share = _panned_shares(clips, stage, colours, cover, materials)
    else:
        still = np.stack([backdrop(spec.furniture, m) for m in materials]) / np.float32(255)
        share = _shares(clips, still, colours, furniture_edges(spec.furniture)[None], materials)
        stage = np.repeat(still[:, None], frames, 1)
    if spec.behind_wall:
        share *= wall_mask() < 1
    tracked = track(action, share, shape, shift)
    wanted, wanted_mass = _nominals(action, shape)
    picture, cover = draw(stage, tracked, colours, behind_wall=spec.behind_wall)
    residual = clips - picture
    misfit = _misfit(residual, share, shape, tracked, spec.behind_wall)
    return Fit(
        action,
        materials,
        colours,
        shape,
        clips,
        stage,
        share,
        tracked,
        cover,
        residual,
        wanted,
        wanted_mass,
        misfit,
    )


def free_misfit(found: Fit, which: Int[Array, " m"]) -> Misfit:
    """What is left by boxes that follow only the pixels, whatever the action can do.

    Args:
        which: indices of clips.
    """
    share, shape = found.share[which], found.shape[which]
    tracked = Tracked(
        box=free_boxes(share, shape),
        shape=shape,
        side=np.zeros(shape.shape[1], int),
        state=found.tracked.state[which],
        mass=found.tracked.mass[which],
    )
    colours, behind_wall = found.colours[which], ACTIONS[found.action].behind_wall
    picture, _ = draw(found.stage[which], tracked, colours, behind_wall=behind_wall)
    return _misfit(found.clips[which] - picture, share, shape, tracked, behind_wall)


def shift(found: Fit) -> Float[Array, "n t"]:
    """Pixels that the picture has moved to the right, also where the action does not ask for it."""
    spec = ACTIONS[found.action]
    if spec.pan:
        return found.tracked.state[:, 0, :, 2]
    return measure_shift(found.clips, spec.furniture, found.materials, found.colours[:, 0])
