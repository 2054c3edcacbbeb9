"""Paths of objects and camera in the world, and how smooth they are.

A picture that moves as a whole moves no object.
"""

import dataclasses

import numpy as np

from vidpref.datasets.miniworld.actions import ACTIONS
from vidpref.datasets.miniworld.vocabulary import SENTENCES
from vidpref.rewards.verifier.fitting import Fit, shift
from vidpref.typing import Array, Float

_SEEN = 0.3  # of its area: an object of which less is in sight is taken to be where it last was
# Mean squared second difference at which smoothness has fallen to 1/e: of paths in pixels, of area.
_ROUGH, _FLICKER = 1.0, 0.15
_VARIATION = 1.2  # of the nominal roughness, within which jitter moves true clips


@dataclasses.dataclass(frozen=True)
class Paths:
    """Of the objects [n, o, t, 3] and of the camera [n, t], in pixels, from their first frame."""

    objects: np.ndarray
    camera: np.ndarray

    def together(self) -> np.ndarray:
        n, _, frames, _ = self.objects.shape
        objects = np.moveaxis(self.objects, 2, 1).reshape(n, frames, -1)
        return np.concatenate([objects, self.camera[..., None]], -1)


def _paths(action: str, state: np.ndarray, mass: np.ndarray, shift: np.ndarray) -> Paths:
    objects = state.copy()
    objects[..., 0] -= shift[:, None]
    if ACTIONS[action].pan:
        objects[..., 2] = 0
    if SENTENCES[action].category != "OR":  # there, out of sight is a place of its own
        last_seen = np.where(mass > _SEEN, np.arange(mass.shape[2]), 0)
        last_seen = np.maximum.accumulate(last_seen, axis=2)
        objects = np.take_along_axis(objects, last_seen[..., None], axis=2)
    return Paths(objects - objects[:, :, :1], shift - shift[:, :1])


def _bend(path: np.ndarray) -> np.ndarray:
    """Mean over frames of the squared second difference of [n, t, d], summed over d."""
    return (np.diff(path, 2, axis=1) ** 2).sum(2).mean(1)


def paths_of(found: Fit) -> tuple[Paths, Paths]:
    """The measured paths and the nominal ones."""
    moved = shift(found)
    measured = _paths(found.action, found.tracked.state, found.tracked.mass, moved)
    moved = found.wanted[:, 0, :, 2] if ACTIONS[found.action].pan else np.zeros_like(moved)
    return measured, _paths(found.action, found.wanted, found.wanted_mass, moved)


def motion_quality(measured: Paths, wanted: Paths, found: Fit) -> Float[Array, " n"]:
    """exp(-r - f) with r the mean squared second difference of the paths beyond 1.2 times the
    nominal one, per pixel^2, and f that of the areas in sight, per 0.15. Standing still is smooth.
    """
    rough = _bend(measured.together()) - _VARIATION * _bend(wanted.together())
    area, wanted_area = (np.moveaxis(m, 1, 2) for m in (found.tracked.mass, found.wanted_mass))
    flicker = _bend(area) - _VARIATION * _bend(wanted_area)
    return np.exp(-np.maximum(rough, 0) / _ROUGH - np.maximum(flicker, 0) / _FLICKER)
