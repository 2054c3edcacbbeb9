"""From scenes to pixels: exact coverage along x, supersampled along y, then averaged down.

Pictures are composed at 32x32, so that the mean of 2x2 pixels of a `scale=2` clip is the `scale=1`
clip up to rounding: the super-resolution stage trains on consistent pairs.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from vidpref.datasets.miniworld.actions import FLOOR, FRAMES, SIZE, WALL_LEFT
from vidpref.datasets.miniworld.vocabulary import MATERIALS
from vidpref.datasets.miniworld.world import Scene, Sprite
from vidpref.typing import Array, Float, Int, UInt8

BACKGROUND = (28, 30, 40)
PLAIN_FLOOR = (62, 64, 74)

# Rectangles (left, top, right, bottom) in pixels; their edges lie on the 32x32 grid.
FURNITURE = {
    "none": (),
    "floor": ((0, 14, 16, 16),),
    "table": ((2, 11, 14, 12), (3, 12, 4, 14), (12, 12, 13, 14)),
    "high table": ((0, 9, 8, 10), (1, 10, 2, 14)),
    "box": ((3, 9, 4, 14), (12, 9, 13, 14), (4, 13, 12, 14)),
    "wall": ((WALL_LEFT, 5, 16, FLOOR),),
    # Tiles and banners, wider than the picture: spaced so that no two shifts look the same.
    "hall": (
        *((left, 14, right, 16) for left, right in ((-6.5, -3), (-1, 2.5), (5, 7), (10, 14))),
        *((left, 14, right, 16) for left, right in ((16.5, 19), (21, 24.5))),
        *((left, 1, right, 5) for left, right in ((-4, -1.5), (3, 6), (11, 13), (18, 21.5))),
    ),
}
_FINE = 2 * SIZE
_CHUNK = 64  # clips composed at once: the working set stays in the cache


@functools.cache
def backdrop(furniture: str, material: str, grid: int = SIZE) -> Float[Array, "h w 3"]:
    """The empty stage at 16x16 or 32x32, of 255; do not write to it."""
    picture = np.empty((_FINE, _FINE, 3), np.float32)
    picture[:] = BACKGROUND
    picture[int(2 * FLOOR) :] = PLAIN_FLOOR
    for left, top, right, bottom in FURNITURE[furniture]:
        area = (
            slice(int(2 * top), int(2 * bottom)),
            slice(int(2 * max(left, 0)), int(2 * max(right, 0))),
        )
        picture[area] = MATERIALS[material]
    picture = _mean_pool(picture[None], _FINE // grid)[0]
    picture.flags.writeable = False
    return picture


def furniture_cover(
    furniture: str, shift: Float[Array, " n"], grid: int = SIZE
) -> Float[Array, "n grid grid"]:
    """How much of every pixel the furniture covers once the picture has moved to the right."""
    shift = np.asarray(shift, np.float32)[:, None]
    columns = np.arange(grid, dtype=np.float32)
    covered = np.zeros((len(shift), grid, grid), np.float32)
    scale = grid / SIZE
    for left, top, right, bottom in FURNITURE[furniture]:
        span = np.clip(scale * (right + shift) - columns, 0, 1)
        span -= np.clip(scale * (left + shift) - columns, 0, 1)
        covered[:, int(scale * top) : int(scale * bottom)] += span[:, None]
    return covered


def panorama(
    furniture: str, materials: Sequence[str], shift: Float[Array, "n t"], grid: int = SIZE
) -> Float[Array, "n t grid grid 3"]:
    """Empty stages while the camera pans, of 255; without a shift they are the `backdrop`."""
    empty = backdrop("none", "", grid)
    cover = furniture_cover(furniture, shift.ravel(), grid).reshape(*shift.shape, grid, grid, 1)
    material = np.float32([MATERIALS[m] for m in materials])[:, None, None, None]
    return empty + cover * (material - empty)


@functools.cache
def wall_mask(grid: int = SIZE) -> Float[Array, "h w"]:
    """1 where the wall hides what is behind it; do not write to it."""
    mask = np.zeros((1, _FINE, _FINE, 1), np.float32)
    left, top, right, bottom = (int(2 * edge) for edge in FURNITURE["wall"][0])
    mask[:, top:bottom, left:right] = 1
    mask = _mean_pool(mask, _FINE // grid)[0, ..., 0]
    mask.flags.writeable = False
    return mask


def _mean_pool(x: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return x
    total = sum(x[..., i::factor, j::factor, :] for i in range(factor) for j in range(factor))
    return total / np.float32(factor * factor)


def coverage(
    box: Float[Array, "n 4"],
    shape: Int[Array, " n"],
    side: Int[Array, " n"],
    *,
    grid: int = SIZE,
    rows: int = 4,
) -> Float[Array, "n grid grid"]:
    """How much of every pixel a shape covers, in [0, 1].

    Args:
        box: centre x, bottom y, width, height in pixels of the 16x16 picture.
        shape: index into `SHAPES`.
        side: -1, 0 or 1 for the left half, the whole or the right half.
        grid: pixels along an edge.
        rows: sample rows a pixel.
    """
    x, bottom, width, height = (np.float32(grid / SIZE) * box.T[..., None]).astype(np.float32)
    columns = np.arange(grid, dtype=np.float32)
    covered = np.zeros((len(box), grid, grid), np.float32)
    is_ball, is_cone = (shape == 0)[:, None], (shape == 2)[:, None]
    for row in range(rows):
        upper = np.arange(grid, dtype=np.float32) + np.float32(row / rows)
        lower = upper + np.float32(1 / rows)
        within = np.clip(np.minimum(bottom, lower) - np.maximum(bottom - height, upper), 0, None)
        down = np.clip(1 - (bottom - (upper + lower) / 2) / height, 0, 1)  # 0 top, 1 bottom
        profile = np.where(is_ball, np.sqrt(4 * down * (1 - down)), np.where(is_cone, down, 1))
        half = profile * width / 2
        left = (x - half * (side <= 0)[:, None])[..., None]
        right = (x + half * (side >= 0)[:, None])[..., None]
        span = np.clip(right - columns, 0, 1)
        span -= np.clip(left - columns, 0, 1)
        span *= within[..., None]
        covered += span
    return covered


def _draw(canvas: np.ndarray, at: list[int], sprites: list[Sprite]) -> None:
    n = len(sprites)
    stacked = coverage(
        np.concatenate([s.box for s in sprites]),
        np.concatenate([s.shape for s in sprites]),
        np.repeat([s.side for s in sprites], FRAMES),
        grid=_FINE,
        rows=2,
    ).reshape(n, FRAMES, _FINE, _FINE)
    stacked *= np.stack([s.opacity for s in sprites])[..., None, None]
    behind = np.array([s.behind_wall for s in sprites])
    stacked[behind] *= 1 - wall_mask(_FINE)
    colour = np.stack([s.colour for s in sprites])[:, :, None, None]
    under = canvas[at]
    canvas[at] = under + stacked[..., None] * (colour - under)


def _spoil(picture: np.ndarray, scene: Scene) -> None:
    for frame in range(FRAMES):
        if scene.blur is not None and scene.blur[frame] > 0:
            width = round(2 * float(scene.blur[frame]))
            picture[frame] = ndimage.uniform_filter(picture[frame], (width, width, 1))
    if scene.noise is not None:
        rng = np.random.default_rng(scene.noise_seed)
        noise = rng.standard_normal((FRAMES, SIZE, SIZE, 3), np.float32)
        noise *= 255 * scene.noise[:, None, None, None]
        picture += noise.repeat(2, 1).repeat(2, 2)


def render_batch(scenes: Sequence[Scene], *, scale: int = 1) -> UInt8[Array, "b t h w 3"]:
    """Clips [b, 8, 16*scale, 16*scale, 3] of the scenes.

    Raises:
        ValueError: scale is neither 1 nor 2.
    """
    if scale not in (1, 2):
        raise ValueError(f"scale must be 1 or 2, not {scale}")
    clips = np.empty((len(scenes), FRAMES, SIZE * scale, SIZE * scale, 3), np.uint8)
    for start in range(0, len(scenes), _CHUNK):
        chunk = scenes[start : start + _CHUNK]
        canvas = np.stack([backdrop(s.furniture, s.material, _FINE) for s in chunk])
        canvas = np.repeat(canvas[:, None], FRAMES, 1)
        for picture, one in zip(canvas, chunk, strict=True):
            if one.pan is not None:
                picture[:] = panorama(one.furniture, [one.material], one.pan[None], _FINE)[0]
        for layer in range(max(len(s.sprites) for s in chunk)):
            at = [i for i, s in enumerate(chunk) if len(s.sprites) > layer]
            _draw(canvas, at, [chunk[i].sprites[layer] for i in at])
        for picture, one in zip(canvas, chunk, strict=True):
            _spoil(picture, one)
        # Clipped before the mean: at either scale a spoiled pixel saturates alike.
        pooled = _mean_pool(np.clip(canvas, 0, 255), 2 // scale)
        clips[start : start + len(chunk)] = np.rint(pooled)
    return clips


def render(scene: Scene, *, scale: int = 1) -> UInt8[Array, "t h w 3"]:
    """The clip [8, 16*scale, 16*scale, 3] of a scene; see `render_batch`."""
    return render_batch([scene], scale=scale)[0]
