"""What the pieces leave open, by where it is: nothing but noise may be where nothing is drawn."""

import dataclasses

import numpy as np

from vidpref.datasets.miniworld.actions import ACTIONS, SIZE
from vidpref.datasets.miniworld.rendering import (
    FURNITURE,
    backdrop,
    furniture_cover,
    panorama,
)
from vidpref.datasets.miniworld.vocabulary import MATERIALS
from vidpref.rewards.verifier.fitting import Fit, draw
from vidpref.rewards.verifier.unmixing import box_mean, furniture_edges, outline
from vidpref.typing import Array, Bool, Float

_NEAR = 0.02  # of its 3x3 neighbourhood: a pixel of which objects cover more is near them
_INSIDE = 0.97  # of its area: a pixel that lies in an object


@dataclasses.dataclass(frozen=True)
class Leftover:
    """Norms over colours of residuals in [0, 1], one a clip.

    Open ground is all that is not within a pixel of an object or of an edge of the furniture, where
    a generator may be soft.

    Attributes:
        pixel: the largest, on open ground.
        patch: the largest mean over 3x3 pixels, on open ground.
        lasting: the largest mean over time, on open ground, over 3x3 pixels.
        lasting_pixel: the largest mean over time, anywhere.
        lasting_patch: the largest mean over time and 3x3 pixels, anywhere.
        tint: mean over open ground of the frame where it is largest.
        inside: mean over time and the inside of an object, of the object where it is largest.
        spot: the largest inside an object, of the frame where it is third largest.
    """

    pixel: Float[Array, " n"]
    patch: Float[Array, " n"]
    lasting: Float[Array, " n"]
    lasting_pixel: Float[Array, " n"]
    lasting_patch: Float[Array, " n"]
    tint: Float[Array, " n"]
    inside: Float[Array, " n"]
    spot: Float[Array, " n"]


def _norm(x: np.ndarray) -> np.ndarray:
    """Over the first axis, of colours: numpy is slow along a last axis of three."""
    return np.sqrt(x[0] ** 2 + x[1] ** 2 + x[2] ** 2)


def _open_ground(found: Fit) -> Bool[Array, "n t h w"]:
    spec = ACTIONS[found.action]
    if spec.pan:
        shift = found.tracked.state[:, 0, :, 2]
        edges = outline(furniture_cover(spec.furniture, shift.ravel()))
        edges = edges.reshape(*shift.shape, SIZE, SIZE)
    else:
        edges = furniture_edges(spec.furniture)
    return ~edges & (box_mean(found.cover.sum(1)) <= _NEAR)


def leftover(found: Fit) -> Leftover:
    """Where residuals are how large."""
    residual, empty = np.ascontiguousarray(np.moveaxis(found.residual, -1, 0)), _open_ground(found)
    size = _norm(residual)
    ground = residual * empty
    mean = residual.mean(2)
    tint = ground.sum((3, 4)) / np.maximum(empty.sum((2, 3)), 1)
    inside, spot = [], []
    for cover in np.moveaxis(found.cover, 1, 0):
        within = (cover > _INSIDE).astype(np.float32)
        total = np.einsum("cnthw,nthw->cn", residual, within)
        inside.append(_norm(total) / np.maximum(within.sum((1, 2, 3)), 1))
        spot.append(np.sort((size * within).max((2, 3)), 1)[:, -3])
    return Leftover(
        pixel=(size * empty).max((1, 2, 3)),
        patch=_norm(box_mean(ground)).max((1, 2, 3)),
        lasting=_norm(box_mean(ground.mean(2))).max((1, 2)),
        lasting_pixel=_norm(mean).max((1, 2)),
        lasting_patch=_norm(box_mean(mean)).max((1, 2)),
        tint=_norm(tint).max(1),
        inside=np.max(inside, 0),
        spot=np.max(spot, 0),
    )


def furniture_error(found: Fit) -> Float[Array, " n"]:
    """How much of a part of the furniture is missing, in the second worst frame of the worst part.

    Of the difference between its colour and what is behind it, mean over the pixels of the part
    that no object covers. 0 where the prompt names no furniture or the camera pans.
    """
    spec, worst = ACTIONS[found.action], np.zeros(len(found.clips), np.float32)
    if spec.pan or spec.furniture == "none":
        return worst
    empty = backdrop("none", "") / np.float32(255)
    colour = np.float32([MATERIALS[m] for m in found.materials])[:, None, None] / 255
    free = found.cover.sum(1) < 0.05
    for left, top, right, bottom in FURNITURE[spec.furniture]:
        part = (..., slice(int(top), int(bottom)), slice(int(left), int(right)))
        behind = empty[part[1:]]
        away = colour - behind
        share = np.einsum("nthwc,nhwc->nthw", found.clips[(*part, slice(None))] - behind, away)
        share /= (away**2).sum(-1)[:, None]
        pixels = free[part].sum((2, 3))
        mean = (share * free[part]).sum((2, 3)) / np.maximum(pixels, 1)
        error = np.sort(np.where(pixels > 0, np.abs(mean - 1), 0), 1)[:, -2]
        worst = np.maximum(worst, error)
    return worst


def first_frame_error(found: Fit, given: Float[Array, "n h w c"]) -> Array:
    """Pixels by which objects stand elsewhere in the first frame than in the given one: [n].

    The first moment of what differs in the object's colour, near the object, over its area.
    """
    differs = found.clips[:, 0] - given
    places = np.stack(np.meshgrid(*[np.arange(SIZE, dtype=np.float32)] * 2, indexing="ij"))
    worst = np.zeros(len(given), np.float32)
    for piece in range(found.shape.shape[1]):
        cover = found.cover[:, piece, 0]
        direction = found.colours[:, piece, None, None] - found.stage[:, 0]
        share = (differs * direction).sum(-1) / (direction**2).sum(-1)
        share *= box_mean(box_mean(cover)) > 0.01
        area = np.maximum(cover.sum((1, 2)), 1)
        centre = np.einsum("nhw,dhw->nd", cover, places) / area[:, None]
        moment = np.einsum("nhw,dhw->nd", share, places) - centre * share.sum((1, 2))[:, None]
        worst = np.maximum(worst, np.linalg.norm(moment, axis=1) / area)
    return worst


def detail_error(found: Fit, clips: Float[Array, "n t grid grid c"]) -> Float[Array, " n"]:
    """Root mean square of the detail of larger clips that the pieces do not explain.

    Detail is what averaging down to 16x16 takes away.
    """
    grid, spec = clips.shape[2], ACTIONS[found.action]
    if spec.pan:
        shift = found.tracked.state[:, 0, :, 2]
        stage = panorama(spec.furniture, found.materials, shift, grid) / np.float32(255)
    else:
        still = np.stack([backdrop(spec.furniture, m, grid) for m in found.materials])
        stage = np.repeat(still[:, None] / np.float32(255), clips.shape[1], 1)
    picture, _ = draw(stage, found.tracked, found.colours, behind_wall=spec.behind_wall)
    residual = clips - picture
    n, t, _, _, c = residual.shape
    blocks = residual.reshape(n, t, SIZE, grid // SIZE, SIZE, grid // SIZE, c)
    detail = blocks - blocks.mean((3, 5), keepdims=True)
    return np.sqrt((detail**2).mean((1, 2, 3, 4, 5, 6)))
