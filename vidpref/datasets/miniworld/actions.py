"""How objects move: every action is a path over progress in [0, 1] and a fixed timing.

Lengths are pixels of the 16x16 picture, x to the right, y downwards. A box is (centre x, bottom y,
width, height).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from vidpref.datasets.miniworld.vocabulary import SHAPES
from vidpref.typing import Array, Float

FRAMES = 8
SIZE = 16

# Nearly equal areas: 16.6, 18.0 and 16.7 square pixels.
EXTENT = dict(zip(SHAPES, ((4.6, 4.6), (6.0, 3.0), (5.4, 6.2)), strict=True))

FLOOR, TABLE_TOP, HIGH_TABLE_TOP, BOX_BOTTOM, WALL_LEFT = 14.0, 11.0, 9.0, 13.0, 9.0
# How far the actions go: (x, y) moved, (width, height) of the whole, halves apart.
SHIFTS = {"left": (-4.3, 0.0), "right": (4.3, 0.0), "up": (0.0, -3.5), "down": (0.0, 3.5)}
PANS = {"pan_left": 4.3, "pan_right": -4.3}  # the camera turns left, the picture moves right
DEFORMATIONS = {"squash": (1.7, 0.55), "stretch": (0.6, 1.85)}
GAP = 2.4
JITTER = 4  # numbers in [-1, 1] that make one scene differ from the next

STEADY = np.minimum(np.arange(FRAMES) / 6, 1.0)
FALLING = np.minimum((np.arange(FRAMES) / 5) ** 2, 1.0)
OVER_THE_EDGE = np.array([0, 0.14, 0.28, 0.42, 0.55, 0.75, 1, 1])


@dataclasses.dataclass(frozen=True)
class Track:
    """One visible piece over time.

    Attributes:
        box: [t, 4] centre x, bottom y, width, height.
        owner: 0 for the first object of the prompt, 1 for the second.
        side: -1 or 1 for the left or right half of the shape, 0 for the whole.
    """

    box: Float[Array, "t 4"]
    owner: int = 0
    side: int = 0


# (progress [t], size of the first object, size of the second, jitter [4]) -> tracks
Path = Callable[[np.ndarray, tuple, tuple | None, np.ndarray], list[Track]]


@dataclasses.dataclass(frozen=True)
class Action:
    """What happens: the furniture around it, the path and its timing; `timing[0]` is 0.

    `pan` is how far the whole picture moves to the right.
    """

    furniture: str
    path: Path
    timing: np.ndarray
    behind_wall: bool = False
    pan: float = 0.0


def _boxes(x, bottom, width, height) -> np.ndarray:
    return np.stack(np.broadcast_arrays(x, bottom, width, height), -1).astype(np.float32)


def _between(start: float, end: float, p: np.ndarray) -> np.ndarray:
    return start + (end - start) * p


def _lift(support: float) -> Path:
    def path(p, a, b, jitter):
        return [Track(_boxes(8 + 0.4 * jitter[0], _between(support, -0.5, p), *a))]

    return path


def _hide(p, a, b, jitter):
    x = _between(3.3 + 0.3 * jitter[0], 12.5 + 0.3 * jitter[2], p)
    return [Track(_boxes(x, FLOOR, *a))]


def _put_on(p, a, b, jitter):
    left, right = 3.2 + 0.2 * jitter[0], 12.8 + 0.2 * jitter[3]
    arc = 4 * (2.5 + 0.2 * jitter[2]) * p * (1 - p)
    moved = _boxes(_between(left, right, p), _between(FLOOR, FLOOR - b[1], p) - arc, *a)
    return [Track(moved), Track(_boxes(right + 0 * p, FLOOR, *b), owner=1)]


def _beside(away: bool) -> Path:
    def path(p, a, b, jitter):
        far, right = 3.2 + 0.2 * jitter[0], 12.8 + 0.2 * jitter[3]
        near = right - (a[0] + b[0]) / 2 - 0.2 + 0.2 * jitter[2]
        x = _between(near, far, p) if away else _between(far, near, p)
        return [Track(_boxes(x, FLOOR, *a)), Track(_boxes(right + 0 * p, FLOOR, *b), owner=1)]

    return path


def _deform(width: float, height: float) -> Path:
    def path(p, a, b, jitter):
        p = p * (1 + 0.08 * jitter[2])
        wide, high = a[0] * _between(1.0, width, p), a[1] * _between(1.0, height, p)
        return [Track(_boxes(8 + 0.7 * jitter[0], FLOOR, wide, high))]

    return path


def _tear(p, a, b, jitter):
    apart = (GAP + 0.2 * jitter[2]) * p
    centre = 8 + np.round(1.4 * jitter[0]) / 2  # on the 32x32 grid: no seam before the action
    return [Track(_boxes(centre + side * apart, FLOOR, *a), side=side) for side in (-1, 1)]


def _shift(dx: float, dy: float) -> Path:
    def path(p, a, b, jitter):
        x = 8 + 0.4 * jitter[0] + dx * (1 + 0.07 * jitter[2]) * p
        y = 7.3 + 0.3 * jitter[1] + dy * (1 + 0.07 * jitter[2]) * p
        return [Track(_boxes(x, y + a[1] / 2, *a))]

    return path


def _panned(distance: float, p: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    return distance * (1 + 0.07 * jitter[2]) * p


def _stay(pan: float) -> Path:
    """At rest on the floor, so that it moves with the picture."""

    def path(p, a, b, jitter):
        return [Track(_boxes(8 + 0.4 * jitter[0] + _panned(pan, p, jitter), FLOOR, *a))]

    return path


def _drop(support: float) -> Path:
    def path(p, a, b, jitter):
        start = a[1] + 0.5 + 0.3 * jitter[1]
        return [Track(_boxes(8 + 0.4 * jitter[0], _between(start, support, p), *a))]

    return path


def _push_off(p, a, b, jitter):
    along, down = np.minimum(p / 0.55, 1), np.maximum(p - 0.55, 0) / 0.45
    x = _between(3.6 + 0.4 * jitter[0], 11.5 + 0.3 * jitter[2], along)
    return [Track(_boxes(x, _between(HIGH_TABLE_TOP, FLOOR, down), *a))]


ACTIONS = {
    "lift_off_table": Action("table", _lift(TABLE_TOP), STEADY),
    "lift_out_of_box": Action("box", _lift(BOX_BOTTOM), STEADY),
    "hide_behind_wall": Action("wall", _hide, STEADY, behind_wall=True),
    "put_on": Action("none", _put_on, STEADY),
    "move_to": Action("none", _beside(away=False), STEADY),
    "move_away": Action("none", _beside(away=True), STEADY),
    "squash": Action("floor", _deform(*DEFORMATIONS["squash"]), STEADY),
    "stretch": Action("floor", _deform(*DEFORMATIONS["stretch"]), STEADY),
    "tear": Action("floor", _tear, STEADY),
    "left": Action("floor", _shift(*SHIFTS["left"]), STEADY),
    "right": Action("floor", _shift(*SHIFTS["right"]), STEADY),
    "up": Action("floor", _shift(*SHIFTS["up"]), STEADY),
    "down": Action("floor", _shift(*SHIFTS["down"]), STEADY),
    "drop_on_table": Action("table", _drop(TABLE_TOP), FALLING),
    "drop_in_box": Action("box", _drop(BOX_BOTTOM), FALLING),
    "push_off_table": Action("high table", _push_off, OVER_THE_EDGE),
    "pan_left": Action("hall", _stay(PANS["pan_left"]), STEADY, pan=PANS["pan_left"]),
    "pan_right": Action("hall", _stay(PANS["pan_right"]), STEADY, pan=PANS["pan_right"]),
}


def tracks(
    action: str,
    shapes: tuple[str, ...],
    jitter: Float[Array, "4"],
    progress: Float[Array, " t"] | None = None,
) -> list[Track]:
    """The pieces of an action, the first object's before the second's.

    Args:
        action: a key of `ACTIONS`.
        shapes: shapes of the one or two objects.
        jitter: numbers in [-1, 1]; zeros give the nominal clip.
        progress: progress of the action at every frame; None for its own timing.
    """
    spec = ACTIONS[action]
    sizes = [EXTENT[shape] for shape in shapes]
    progress = spec.timing if progress is None else np.asarray(progress)
    return spec.path(progress, sizes[0], sizes[1] if len(sizes) > 1 else None, jitter)


def pan(
    action: str, jitter: Float[Array, "4"], progress: Float[Array, " t"] | None = None
) -> Float[Array, " t"] | None:
    """How far the picture has moved to the right in every frame; None where the camera is fixed.

    Arguments are those of `tracks`.
    """
    spec = ACTIONS[action]
    if not spec.pan:
        return None
    progress = spec.timing if progress is None else np.asarray(progress)
    return _panned(spec.pan, progress, jitter).astype(np.float32)
