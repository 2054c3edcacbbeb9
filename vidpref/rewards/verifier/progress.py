"""How far an action is in every frame, and what that says of its order and its timing."""

import numpy as np

from vidpref.rewards.verifier.fitting import Fit
from vidpref.typing import Array, Float

MOVING = 0.5  # an object that goes less far than this many pixels is at rest
_END = slice(-2, None)  # every action is over by then
# Frames of a fall from rest; in them its path bends by 0.32 of the way, at constant speed by 0.
_FALL = (0, 2, 4)
_FALLS = ("drop_on_table", "drop_in_box")


def travel(wanted: Float[Array, "n o t d"]) -> Float[Array, "n o"]:
    """Largest distance from the start."""
    return np.linalg.norm(wanted - wanted[:, :, :1], axis=-1).max(-1)


def along_path(found: Fit) -> tuple[Float[Array, "n o t"], Float[Array, "n o t"]]:
    """Share of the nominal path that lies behind each object, of [0, 1], and the nominal share.

    That is the place on the path nearest to where the object is, by the length of the path up to
    there. An object at rest is always at 1.
    """
    moved = found.tracked.state - found.tracked.state[:, :, :1]
    path = found.wanted - found.wanted[:, :, :1]
    start, step = path[:, :, :-1], np.diff(path, axis=2)
    length = np.linalg.norm(step, axis=-1)
    done = np.cumsum(length, -1)
    whole = done[..., -1:]
    offset = moved[:, :, :, None] - start[:, :, None]  # [n, o, t, t - 1, 3]
    squared = np.maximum(length**2, 1e-6)[:, :, None]
    fraction = np.clip((offset * step[:, :, None]).sum(-1) / squared, 0, 1)
    distance = ((offset - fraction[..., None] * step[:, :, None]) ** 2).sum(-1)
    distance = np.where(length[:, :, None] < 1e-3, np.inf, distance)
    nearest = distance.argmin(-1)[..., None]
    reached = (done - length)[:, :, None] + fraction * length[:, :, None]
    reached = np.take_along_axis(reached, nearest, -1)[..., 0]
    nominal = np.concatenate([np.zeros_like(whole), done], -1)
    at_rest = travel(found.wanted)[..., None] < MOVING
    safe = np.where(at_rest, 1, whole)
    return np.where(at_rest, 1, reached / safe), np.where(at_rest, 1, nominal / safe)


def falls_back(progress: Float[Array, "n o t"]) -> Float[Array, " n"]:
    """The most that progress is ever below what it has been."""
    return (np.maximum.accumulate(progress, 2) - progress).max((1, 2))


def longest_leap(progress: Float[Array, "n o t"], nominal: Float[Array, "n o t"]) -> Array:
    """How much longer a step is than the nominal ones just before, then and just after: [n]."""
    step, wanted = np.diff(progress, axis=2), np.diff(nominal, axis=2)
    padded = np.pad(wanted, ((0, 0), (0, 0), (1, 1)), mode="edge")
    wanted = np.maximum(np.maximum(padded[:, :, :-2], wanted), padded[:, :, 2:])
    return (step - wanted).max((1, 2))


def off_beat(progress: Float[Array, "n o t"], nominal: Float[Array, "n o t"]) -> Array:
    """Progress that is missing or too much, mean over time: [n]."""
    return np.abs((nominal - progress).mean(2)).max(1)


def bend_of_fall(found: Fit, progress: Float[Array, "n o t"]) -> Array:
    """How much a thing that falls gains in speed, of what it should: [n]; 1 for other actions."""
    if found.action not in _FALLS:
        return np.ones(len(progress), np.float32)
    first, middle, last = (progress[:, 0, t] for t in _FALL)
    return (last - 2 * middle + first) / 0.32


def end_error(found: Fit) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Pixels by which objects end elsewhere than they should, moving ones and those at rest."""
    moved = found.tracked.state - found.tracked.state[:, :, :1]
    wanted = found.wanted - found.wanted[:, :, :1]
    away = np.linalg.norm((moved - wanted)[:, :, _END].mean(2), axis=-1)
    moving = travel(found.wanted) >= MOVING
    return np.where(moving, away, 0).max(1), np.where(moving, 0, away).max(1)


def missing_end(progress: Float[Array, "n o t"]) -> Float[Array, " n"]:
    """Share of the path that is not gone by the end."""
    return (1 - progress[:, :, _END].max(2)).max(1)
