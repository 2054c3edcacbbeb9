"""Positions of CogVideoX's video tokens: added sines (2B), rotary angles (5B)."""

import jax.numpy as jnp
import numpy as np

from vidpref.models.rope import rotary_tables
from vidpref.typing import Array, Float


def sincos_positions(
    grid: tuple[int, int, int], width: int, *, spatial_scale: float, temporal_scale: float
) -> Float[Array, "l {width}"]:
    """Sines, then cosines, of the token's time, column and row, in this order.

    Time has the first quarter of the features, column and row three eighths each. Equal to
    `get_3d_sincos_pos_embed` of diffusers.

    Args:
        grid: (t, h, w) tokens; w runs fastest.
        width: features of a token.
        spatial_scale: rows and columns are divided by it.
        temporal_scale: times are divided by it.

    Raises:
        ValueError: `width` is no multiple of 16.
    """
    if width % 16:
        raise ValueError(f"sincos positions need a width that is a multiple of 16, got {width}")
    t, h, w = grid
    eighth = width // 8
    tables = (
        _sincos(np.arange(t) / temporal_scale, 2 * eighth)[:, None, None],
        _sincos(np.arange(w) / spatial_scale, 3 * eighth)[None, None, :],
        _sincos(np.arange(h) / spatial_scale, 3 * eighth)[None, :, None],
    )
    # broadcast by the compiler, so that a program holds the small tables only
    parts = [
        jnp.broadcast_to(jnp.asarray(table, jnp.float32), (*grid, table.shape[-1]))
        for table in tables
    ]
    return jnp.concatenate(parts, axis=-1).reshape(t * h * w, width)


def rotary_positions(
    grid: tuple[int, int, int], head_dim: int, *, trained: tuple[int, int]
) -> tuple[Float[Array, "l {head_dim}"], Float[Array, "l {head_dim}"]]:
    """Factors of `rotate` for a grid fitted into the grid of the training clips.

    Another size is scaled to the largest centred rectangle of its shape in the grid `trained`, so
    that its positions are those that the network has seen. Time has the first quarter of a head's
    features, row and column three eighths each. Equal to what `CogVideoXPipeline` gives its
    transformer.

    Args:
        grid: (t, h, w) tokens; w runs fastest.
        head_dim: features of a head.
        trained: (h, w) tokens of the training clips.

    Raises:
        ValueError: `head_dim` is no multiple of 16.
    """
    if head_dim % 16:
        raise ValueError(f"CogVideoX's rotary positions need head_dim % 16 == 0, got {head_dim}")
    t, h, w = grid
    if h * trained[1] > w * trained[0]:  # taller than the training clips
        size = trained[0], round(trained[0] / h * w)
    else:
        size = round(trained[1] / w * h), trained[1]
    start = [round((whole - part) / 2) for whole, part in zip(trained, size, strict=True)]
    rows, columns = (
        np.linspace(s, (s + part) * (n - 1) / n, n)
        for s, part, n in zip(start, size, (h, w), strict=True)
    )
    eighth = head_dim // 8
    dims = (2 * eighth, 3 * eighth, 3 * eighth)
    return rotary_tables((np.arange(t, dtype=np.float64), rows, columns), dims)


def _sincos(positions: Float[np.ndarray, " n"], dim: int) -> Float[np.ndarray, "n {dim}"]:
    frequencies = 10_000.0 ** (-np.arange(dim // 2) / (dim // 2))
    angles = positions[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
