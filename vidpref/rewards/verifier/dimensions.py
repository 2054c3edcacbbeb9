"""Scores of a fit beside the verdict, each of [0, 1] and graded.

They are continuous in the pixels but for objects so faint that they are about to be out of sight.
In the formulas of the scores, which stand at their functions, m is the measured and w the nominal
path of the prompt's action, both [t, d] and relative to their first frame.
"""

import numpy as np

from vidpref.datasets.miniworld.actions import PANS, STEADY
from vidpref.rewards.verifier.fitting import Fit, Misfit, free_misfit
from vidpref.rewards.verifier.motion import Paths, motion_quality
from vidpref.rewards.verifier.rules import LIMITS, pixels_limit
from vidpref.typing import Array, Float

# Mean distance from the start over the frames of a nominal pan, in pixels.
_PAN = float(max(PANS.values()) * STEADY.mean())
_FREE = 0.97  # of the score where the action's own pieces do not fit
_PRESENT = 0.2  # of its area: how much more or less of an object is as good as all of it


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


def object_motion(measured: Paths, wanted: Paths) -> Float[Array, " n"]:
    """min(1, mean_t |m_o| / mean_t |w_o|) over the objects, whatever way they go. Where the prompt
    moves no object, a pan's length takes the place of w.
    """
    nominal = _travel(wanted.objects)
    nominal = np.where(nominal < 0.1, _PAN, nominal)
    return np.minimum(_travel(measured.objects) / nominal, 1)


def camera_motion(measured: Paths) -> Float[Array, " n"]:
    """min(1, mean_t |shift| / mean_t |shift of a nominal pan|), whatever way it goes."""
    return np.minimum(np.abs(measured.camera).mean(1) / _PAN, 1)


def text_alignment(measured: Paths, wanted: Paths, found: Fit) -> Float[Array, " n"]:
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


def measure(found: Fit, measured: Paths, wanted: Paths) -> dict[str, Float[Array, " n"]]:
    """All scores of the clips of a fit, of its paths from `motion.paths_of`."""
    scores = {
        "visual_quality": visual_quality(found),
        "motion_quality": motion_quality(measured, wanted, found),
        "object_motion": object_motion(measured, wanted),
        "camera_motion": camera_motion(measured),
        "text_alignment": text_alignment(measured, wanted, found),
    }
    return {name: score.astype(np.float32) for name, score in scores.items()}
