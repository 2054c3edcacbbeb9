"""How far the picture has moved: the shift of the furniture that explains a frame best."""

import functools

import numpy as np

from vidpref.datasets.miniworld.rendering import BACKGROUND, backdrop, furniture_cover
from vidpref.datasets.miniworld.vocabulary import MATERIALS
from vidpref.typing import Array, Float

_STEP = 0.25
_SHIFTS = np.arange(-6.5, 6.5 + _STEP / 2, _STEP).astype(np.float32)
# Pixels of furniture that a shift must explain, per squared pixel of shift: blur and noise alone
# move nothing.
_RELUCTANCE = 0.2


@functools.cache
def _bank(furniture: str) -> tuple[np.ndarray, np.ndarray]:
    """The furniture's cover at every shift [s, h * w], and its squares by row [s, h]."""
    cover = furniture_cover(furniture, _SHIFTS)
    return cover.reshape(len(_SHIFTS), -1), (cover**2).sum(-1)


def measure_shift(
    clips: Float[Array, "n t h w c"],
    furniture: str,
    materials: list[str],
    colours: Float[Array, "n c"] | None = None,
) -> Float[Array, "n t"]:
    """Pixels that the furniture has moved to the right, of [-6.5, 6.5].

    Furniture without upright edges (a plain floor, or none) shows no shift: 0.

    Args:
        clips: clips in [0, 1].
        furniture: a key of `FURNITURE`, the same for all clips.
        materials: materials of the furniture, one a clip.
        colours: colours of the object, where it may be taken for furniture: it is looked away from.
    """
    if furniture in ("none", "floor"):
        return np.zeros(clips.shape[:2], np.float32)
    empty = backdrop("none", "") / np.float32(255)
    background = np.float32(BACKGROUND) / 255
    material = np.float32([MATERIALS[m] for m in materials]) / 255
    axis = material - background
    if colours is not None:
        away = colours - background
        axis -= ((axis * away).sum(-1) / (away**2).sum(-1))[:, None] * away
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    seen = np.einsum("nthwc,nc->nthw", clips - empty, axis, optimize=True)
    height = np.einsum("nhc,nc->nh", material[:, None] - empty[None, :, 0], axis)
    seen *= height[:, None, :, None]
    cover, squares = _bank(furniture)
    cost = -2 * (seen.reshape(*seen.shape[:2], -1) @ cover.T)
    cost += (height**2 @ squares.T + _RELUCTANCE * height[:, :1] ** 2 * _SHIFTS**2)[:, None]
    best = cost.argmin(-1)
    inner = np.clip(best, 1, len(_SHIFTS) - 2)
    before, now, after = (
        np.take_along_axis(cost, inner[..., None] + step, -1)[..., 0] for step in (-1, 0, 1)
    )
    bend = np.maximum(before - 2 * now + after, 1e-6)
    between = np.where(best == inner, np.clip((before - after) / (2 * bend), -0.5, 0.5), 0)
    return (_SHIFTS[best] + _STEP * between).astype(np.float32)
