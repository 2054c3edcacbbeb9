"""Between pixels as they are stored and pixels as networks see them."""

import jax.numpy as jnp

from vidpref.typing import Array, Float, UInt8


def to_unit(pixels: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """Returns bytes 0..255 as float32 in [-1, 1]."""
    return pixels.astype(jnp.float32) / 127.5 - 1.0


def to_bytes(values: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """Returns values in [-1, 1] as the nearest bytes 0..255."""
    return jnp.round((values + 1.0) * 127.5).astype(jnp.uint8)
