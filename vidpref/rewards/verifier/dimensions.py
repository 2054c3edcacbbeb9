"""Scores of a fit beside the verdict, each of [0, 1] and graded.

They are continuous in the pixels but for objects so faint that they are about to be out of sight.
Paths are taken in the world: a picture that moves as a whole moves no object. In the formulas of
the scores, which stand at their functions, m is the measured and w the nominal path of the prompt's
action, both [t, d] and relative to their first frame.
"""

import dataclasses

import numpy as np

from vidpref.datasets.miniworld.actions import ACTIONS, PANS, STEADY
from vidpref.datasets.miniworld.vocabulary import SENTENCES
from vidpref.rewards.verifier.fitting import Fit, Misfit, free_misfit, shift
from vidpref.rewards.verifier.rules import LIMITS, pixels_limit
from vidpref.typing import Array, Float

# Mean distance from the start over the frames of a nominal pan, in pixels.
_PAN = float(max(PANS.values()) * STEADY.mean())
_SEEN = 0.3  # of its area: an object of which less is in sight is taken to be where it last was
# Mean squared second difference at which smoothness has fallen to 1/e: of paths in pixels, of area.
_ROUGH, _FLICKER = 1.0, 0.15
_VARIATION = 1.2  # of the nominal roughness, within which jitter moves true clips
_FREE = 0.97  # of the score where the action's own pieces do not fit
_PRESENT = 0.2  # of its area: how much more or less of an object is as good as all of it


@dataclasses.dataclass(frozen=True)
class _Paths:
    """Of the objects [n, o, t, 3] and of the camera [n, t], in pixels, from their first frame."""

    objects: np.ndarray
    camera: np.ndarray

    def together(self) -> np.ndarray:
        n, _, frames, _ = self.objects.shape
        objects = np.moveaxis(self.objects, 2, 1).reshape(n, frames, -1)
        return np.concatenate([objects, self.camera[..., None]], -1)


def _paths(action: str, state: np.ndarray, mass: np.ndarray, shift: np.ndarray) -> _Paths:
    objects = state.copy()
    objects[..., 0] -= shift[:, None]
    if ACTIONS[action].pan:
        objects[..., 2] = 0
    if SENTENCES[action].category != "OR":  # there, out of sight is a place of its own
        last_seen = np.where(mass > _SEEN, np.arange(mass.shape[2]), 0)
        last_seen = np.maximum.accumulate(last_seen, axis=2)
        objects = np.take_along_axis(objects, last_seen[..., None], axis=2)
    return _Paths(objects - objects[:, :, :1], shift - shift[:, :1])


def _bend(path: np.ndarray) -> np.ndarray:
    """Mean over frames of the squared second difference of [n, t, d], summed over d."""
    return (np.diff(path, 2, axis=1) ** 2).sum(2).mean(1)


def _travel(objects: np.ndarray) -> np.ndarray:
    """Mean over frames of the distance from the first, summed over objects."""
    return np.linalg.norm(objects, axis=-1).mean(2).sum(1)


def _clean(found: Fit, misfit: Misfit, which: np.ndarray) -> np.ndarray:
    pixels = misfit.pixels / pixels_limit(found.contrast[which])[:, None]
    noise = misfit.noise / LIMITS["noise"]
    shape = misfit.shape.max(1) / LIMITS["shape"]
    return np.exp(-(pixels**2 + noise**2 + shape**2) / 2)


def visual_quality(found: Fit) -> Float[Array, " n"]:
    """mean_t exp(-(u^2 + n^2 + s^2) / 2) with u the pixels that the fitted pieces leave
    unexplained, n the noise and s the error of shape of a frame, each in units of its rule's limit.

    So that another motion than the prompt's costs nothing, a frame may instead be explained by
    objects of any place and size, at 0.97 of the score.
    """
    clean = _clean(found, found.misfit, np.arange(len(found.clips)))
    doubtful = np.flatnonzero((clean < _FREE).any(1))
    if len(doubtful):
        free = _FREE * _clean(found, free_misfit(found, doubtful), doubtful)
        clean[doubtful] = np.maximum(clean[doubtful], free)
    return clean.mean(1)


def motion_quality(measured: _Paths, wanted: _Paths, found: Fit) -> Float[Array, " n"]:
    """exp(-r - f) with r the mean squared second difference of the paths beyond 1.2 times the
    nominal one, per pixel^2, and f that of the areas in sight, per 0.15. Standing still is smooth.
    """
    rough = _bend(measured.together()) - _VARIATION * _bend(wanted.together())
    area, wanted_area = (np.moveaxis(m, 1, 2) for m in (found.tracked.mass, found.wanted_mass))
    flicker = _bend(area) - _VARIATION * _bend(wanted_area)
    return np.exp(-np.maximum(rough, 0) / _ROUGH - np.maximum(flicker, 0) / _FLICKER)


def object_motion(measured: _Paths, wanted: _Paths) -> Float[Array, " n"]:
    """min(1, mean_t |m_o| / mean_t |w_o|) over the objects, whatever way they go. Where the prompt
    moves no object, a pan's length takes the place of w.
    """
    nominal = _travel(wanted.objects)
    nominal = np.where(nominal < 0.1, _PAN, nominal)
    return np.minimum(_travel(measured.objects) / nominal, 1)


def camera_motion(measured: _Paths) -> Float[Array, " n"]:
    """min(1, mean_t |shift| / mean_t |shift of a nominal pan|), whatever way it goes."""
    return np.minimum(np.abs(measured.camera).mean(1) / _PAN, 1)


def text_alignment(measured: _Paths, wanted: _Paths, found: Fit) -> Float[Array, " n"]:
    """max(0, p - |m - p w| / |w|) times presence, with p = <m, w> / <w, w> of [0, 1] the progress
    along the wanted path and the second term all other motion, over objects and camera together;
    presence: mean over frames of 1 - max(0, |area in sight - nominal| - 0.2) / 0.8, of the object
    of which it is least.
    """
    m, w = measured.together(), wanted.together()
    squared = (w**2).sum((1, 2))
    progress = np.clip((m * w).sum((1, 2)) / squared, 0, 1)
    aside = np.sqrt(((m - progress[:, None, None] * w) ** 2).sum((1, 2)) / squared)
    missing = np.abs(found.tracked.mass - found.wanted_mass) - _PRESENT
    present = 1 - np.clip(missing / (1 - _PRESENT), 0, 1).mean(2).max(1)
    return present * np.maximum(progress - aside, 0)


def measure(found: Fit) -> dict[str, Float[Array, " n"]]:
    """All scores of the clips of a fit."""
    moved = shift(found)
    measured = _paths(found.action, found.tracked.state, found.tracked.mass, moved)
    moved = found.wanted[:, 0, :, 2] if ACTIONS[found.action].pan else np.zeros_like(moved)
    wanted = _paths(found.action, found.wanted, found.wanted_mass, moved)
    scores = {
        "visual_quality": visual_quality(found),
        "motion_quality": motion_quality(measured, wanted, found),
        "object_motion": object_motion(measured, wanted),
        "camera_motion": camera_motion(measured),
        "text_alignment": text_alignment(measured, wanted, found),
    }
    return {name: score.astype(np.float32) for name, score in scores.items()}
