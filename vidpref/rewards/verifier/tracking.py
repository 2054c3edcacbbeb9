"""Where the objects are: the pose of every piece in every frame, from shares of colour.

Poses are measured freely, frame by frame; whether they make the action asked for is for the rules.
A pose is a box (centre x, bottom y, width, height) as in `datasets.miniworld.actions`, and a state:
the two or three numbers that an action changes.
"""

import dataclasses
import functools

import numpy as np

from vidpref.datasets.miniworld.actions import (
    BOX_BOTTOM,
    DEFORMATIONS,
    EXTENT,
    FLOOR,
    PANS,
    SIZE,
    TABLE_TOP,
    WALL_LEFT,
)
from vidpref.datasets.miniworld.rendering import coverage, wall_mask
from vidpref.datasets.miniworld.vocabulary import SHAPES
from vidpref.typing import Array, Float, Int

EXTENTS = np.array([EXTENT[shape] for shape in SHAPES], np.float32)
# Height of the centroid above the bottom, of the whole height: a triangle has it at a third.
CENTROID = np.array([0.5, 0.5, 1 / 3], np.float32)
# Width and height over the standard deviation of the area along x and y.
_SPREAD = np.sqrt(np.array([(16, 16), (12, 12), (24, 18)], np.float32))
_CENTRES = np.arange(SIZE, dtype=np.float32) + 0.5
_STEPS = 256  # of the tables that are inverted by interpolation
_GONE = 0.08  # an object of less than this share of its area is out of sight


@dataclasses.dataclass(frozen=True)
class Tracked:
    """Measured pieces of n clips.

    Attributes:
        box: boxes of p pieces; a torn object has two.
        shape, side: shape and side of every piece.
        state: centre x, centre y and gap, height or shift of the picture, of the first object,
            then of the second.
        mass: area of each object in sight, of its whole area.
    """

    box: Float[Array, "n p t 4"]
    shape: Int[Array, "n p"]
    side: Int[Array, " p"]
    state: Float[Array, "n o t 3"]
    mass: Float[Array, "n o t"]


def _area(shape: np.ndarray) -> np.ndarray:
    return _areas()[shape]


@functools.cache
def _areas() -> np.ndarray:
    box = np.array([(8, 12, *extent) for extent in EXTENTS], np.float32)
    return coverage(box, np.arange(len(SHAPES)), np.zeros(len(SHAPES), int)).sum((1, 2))


def moments(share: Float[Array, "*n h w"]) -> tuple[Array, Array, Array]:
    """Mass in pixels, centre x and centre y; the middle of the picture where nothing is."""
    columns, rows = share.sum(-2), share.sum(-1)
    mass = columns.sum(-1)
    safe = np.maximum(mass, 0.1)
    empty = mass < 0.1
    x = np.where(empty, SIZE / 2, columns @ _CENTRES / safe)
    y = np.where(empty, SIZE / 2, rows @ _CENTRES / safe)
    return mass, np.clip(x, 0, SIZE), np.clip(y, 0, SIZE)


def free_boxes(share: Float[Array, "n o t h w"], shape: Int[Array, "n o"]) -> Array:
    """Boxes [n, o, t, 4] of the shapes that have the place and spread of the shares."""
    mass, x, y = moments(share)
    size = []
    for axis, centre, ratio in ((-2, x, _SPREAD[:, 0]), (-1, y, _SPREAD[:, 1])):
        distance = (_CENTRES - centre[..., None]) ** 2
        variance = (share.sum(axis) * distance).sum(-1) / np.maximum(mass, 0.1)
        # The pixels themselves are spread by 1 / 12.
        size.append(ratio[shape][:, :, None] * np.sqrt(np.maximum(variance - 1 / 12, 0)))
    whole = np.moveaxis(EXTENTS[shape], -1, 0)[..., None]
    width, height = np.clip(size, 0.5 * whole, 2.5 * whole)
    bottom = y + CENTROID[shape][:, :, None] * height
    return np.stack([x, bottom, width, height], -1).astype(np.float32)


def _partial_sight(x, y, mass, area, upwards: bool) -> np.ndarray:
    """A number that changes steadily while an object goes out of sight."""
    whole = np.minimum(mass / (0.85 * area), 1)
    return y + 2 * whole if upwards else x - 2 * whole


@functools.cache
def _sight_table(shape: int, upwards: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions along the way out of sight and what `_partial_sight` says of them, increasing."""
    width, height = EXTENTS[shape]
    box = np.tile(np.float32([8, FLOOR, width, height]), (_STEPS, 1))
    if upwards:
        box[:, 1] = np.linspace(0.1, max(BOX_BOTTOM, TABLE_TOP) + 1, _STEPS)
    else:
        box[:, 0] = np.linspace(width / 2, WALL_LEFT + width / 2, _STEPS)
    share = coverage(box, np.full(_STEPS, shape), np.zeros(_STEPS, int))
    if not upwards:
        share *= 1 - wall_mask()
    mass, x, y = moments(share)
    seen = mass > _GONE * _areas()[shape]
    signal = _partial_sight(x, y, mass, _areas()[shape], upwards)
    return np.maximum.accumulate(signal[seen]), box[seen, 1 if upwards else 0]


@functools.cache
def _half_spread(shape: int) -> float:
    """Mean distance from the middle of a whole shape, along x."""
    box = np.float32([[8, 12, *EXTENTS[shape]]])
    share = coverage(box, np.array([shape]), np.array([0]))[0].sum(0)
    return float(share @ np.abs(_CENTRES - 8) / share.sum())


def _leaving(x, y, mass, shape, upwards: bool):
    """Fills in the position of an object that the border or the wall hides in part."""
    position = np.empty_like(x)
    area = _area(shape)[:, None]
    signal = _partial_sight(x, y, mass, area, upwards)
    for kind in range(len(SHAPES)):
        at = shape == kind
        if at.any():
            known, places = _sight_table(kind, upwards)
            position[at] = np.interp(signal[at], known, places)
    gone = mass < _GONE * area
    whole = mass > 0.6 * area
    if upwards:
        weight = np.maximum(whole.sum(1), 1)
        lateral = (x * whole).sum(1) / weight
        x = np.where(whole, x, lateral[:, None])
        return x, np.where(gone, -0.5, position)
    # Far enough that every shape is hidden.
    return np.where(gone, WALL_LEFT + 3.5, position), np.full_like(x, FLOOR)


def track(
    action: str,
    share: Float[Array, "n o t h w"],
    shape: Int[Array, "n o"],
    shift: Float[Array, "n t"],
) -> Tracked:
    """The pieces of the objects of one action.

    Args:
        action: a key of `ACTIONS`.
        share: share of every pixel, by object.
        shape: what each object is said to be, index into `SHAPES`.
        shift: pixels that the picture has moved to the right; part of the state of a pan.
    """
    mass, x, y = moments(share)
    width, height = np.broadcast_to(EXTENTS[shape][:, :, None], (*x.shape, 2)).transpose(3, 0, 1, 2)
    low = CENTROID[shape][:, :, None]
    third = np.zeros_like(x)
    side = np.zeros(shape.shape[1], int)
    pieces = shape
    bottom = y + low * height
    if action in ("lift_off_table", "lift_out_of_box", "hide_behind_wall"):
        upwards = action != "hide_behind_wall"
        x, bottom = (
            v[:, None] for v in _leaving(x[:, 0], y[:, 0], mass[:, 0], shape[:, 0], upwards)
        )
        y = bottom - low * height
    elif action in DEFORMATIONS:
        wide, high = DEFORMATIONS[action]
        # The foot stays on the floor, so the centroid tells the height.
        third = np.clip((FLOOR - y) / low, 0.3 * height, 2.2 * height)
        progress = (third / height - 1) / (high - 1)
        width = width * (1 + (wide - 1) * np.clip(progress, -0.2, 1.2))
        height, bottom = third, np.full_like(y, FLOOR)
    elif action in PANS:
        third = third + shift[:, None]
    box = np.stack([x, bottom, width, height], -1)
    if action == "tear":
        distance = np.abs(_CENTRES - x[..., None])
        spread = (share.sum(-2) * distance).sum(-1) / np.maximum(mass, 0.1)
        rest = np.array([_half_spread(kind) for kind in range(len(SHAPES))])[shape][:, :, None]
        third = np.clip(spread - rest, 0, 6)
        side = np.array([-1, 1])
        box = np.concatenate([box, box], 1)
        box[..., 0] += side[None, :, None] * third
        pieces = np.concatenate([shape, shape], 1)
    return Tracked(
        box=box.astype(np.float32),
        shape=pieces,
        side=side,
        state=np.stack([x, y, third], -1),
        mass=mass / _area(shape)[:, :, None],
    )
