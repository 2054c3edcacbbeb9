"""Rotary positions on a grid of video tokens (Su et al. 2021), as video transformers lay it out."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vidpref.typing import Array, Float


def rotary_tables(
    positions: Sequence[Float[np.ndarray, " _"]], dims: Sequence[int], theta: float = 10_000.0
) -> tuple[Float[Array, "l d"], Float[Array, "l d"]]:
    """Returns the factors of `rotate` for the tokens of a grid, the last axis fastest.

    Every axis of the grid turns features of its own: the first `dims[0]` turn with the first axis.
    Feature pair i of an axis turns by position * theta^(-2i / dim).

    Args:
        positions: positions of the grid points along each axis, in tokens.
        dims: how many features turn with each axis; even.
        theta: the longest wave is about 2 pi theta tokens.

    Returns:
        The cosines, and the sines with a minus for the first feature of a pair.

    Raises:
        ValueError: odd `dims`.
    """
    if any(dim % 2 for dim in dims):
        raise ValueError(f"rotary positions turn pairs of features, so dims={dims} must be even")
    grid = [len(axis) for axis in positions]
    cosines, sines = [], []
    for number, (axis, dim) in enumerate(zip(positions, dims, strict=True)):
        # angles in float64, as PyTorch has them: float32 loses 1e-4 at position 1000
        frequencies = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
        angles = np.repeat(np.asarray(axis, np.float64)[:, None] * frequencies, 2, axis=1)
        signs = np.tile([-1.0, 1.0], dim // 2)
        shape = [1] * len(grid) + [dim]
        shape[number] = len(axis)
        for tables, values in ((cosines, np.cos(angles)), (sines, np.sin(angles) * signs)):
            table = jnp.asarray(values.reshape(shape), jnp.float32)
            tables.append(jnp.broadcast_to(table, (*grid, dim)))
    l = math.prod(grid)
    cos, sin = (jnp.concatenate(t, axis=-1).reshape(l, -1) for t in (cosines, sines))
    return cos, sin


def rotate(
    x: Float[Array, "b l n d"], cos: Float[Array, "l d"], sin: Float[Array, "l d"]
) -> Float[Array, "b l n d"]:
    """Turns neighbouring features (2i, 2i + 1) of queries or keys by the angle of their token.

    Args:
        x: queries or keys of n heads.
        cos: cosines of `rotary_tables`.
        sin: sines of `rotary_tables`.

    Returns:
        The same type as `x`; computed in float32.
    """
    wide = x.astype(jnp.float32)
    first = jnp.arange(x.shape[-1]) % 2 == 0
    # shifts by one feature instead of a reshape to pairs: a last axis of 2 wastes vector registers
    partner = jnp.where(
        first[None, None, None], jnp.roll(wide, -1, axis=-1), jnp.roll(wide, 1, axis=-1)
    )
    return (wide * cos[None, :, None] + partner * sin[None, :, None]).astype(x.dtype)
