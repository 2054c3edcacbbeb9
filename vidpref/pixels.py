"""Between pixels as they are stored and pixels as networks see them."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vidpref.typing import Array, Float, Int, UInt8

_NAMED = 5  # clips that a message lists


def to_unit(pixels: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """Returns bytes 0..255 as float32 in [-1, 1]."""
    return pixels.astype(jnp.float32) / 127.5 - 1.0


def clip_to_unit(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns values cut off at -1 and 1; infinite ones become NaN, so that they can be refused."""
    return jnp.where(jnp.isfinite(values), jnp.clip(values, -1.0, 1.0), jnp.nan)


def to_bytes(values: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """Returns values in [-1, 1] as the nearest bytes 0..255.

    A NaN becomes 0 here, since compiled code cannot raise: see `not_finite` and `check_finite`.
    """
    return jnp.round((values + 1.0) * 127.5).astype(jnp.uint8)


def not_finite(clips: Float[Array, "b ..."]) -> Int[Array, " b"]:
    """Returns how many values of each clip are NaN or infinite."""
    return (~jnp.isfinite(clips)).reshape(len(clips), -1).sum(axis=1)


def check_finite(counts: Int[np.ndarray, " b"], clips: Sequence[str], what: str) -> None:
    """Refuses clips with values that are no numbers, which would be stored as black or grey.

    Args:
        counts: of each clip, as of `not_finite`.
        clips: what the clips are called.
        what: what drew them.

    Raises:
        ValueError: says how many of which clips.
    """
    bad = np.flatnonzero(counts)
    if not bad.size:
        return
    named = [f"{clips[i]} ({counts[i]} values)" for i in bad[:_NAMED]]
    more = f" and {bad.size - _NAMED} more" if bad.size > _NAMED else ""
    raise ValueError(
        f"{what}: {bad.size} of {len(clips)} clips have values that are NaN or infinite: "
        f"{', '.join(named)}{more}. Nothing of them is stored. Look for the cause in the weights "
        "(training or import) or in a compute type that is too narrow"
    )
