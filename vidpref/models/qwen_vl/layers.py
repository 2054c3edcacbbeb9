"""What decoder and vision tower of Qwen-VL share: the RMS norm and rotary positions of halves."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.typing import Array, Float


class RMSNorm(nn.Module):
    """x / rms(x) in float32, rounded to `dtype`, then times a scale (Zhang and Sennrich 2019).

    The order of rounding is that of Qwen's norms in transformers, which differs from Flax's.

    Attributes:
        epsilon: number added to the mean square.
        dtype: type of the result.
    """

    epsilon: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        ones = nn.with_logical_partitioning(nn.initializers.ones, (None,))
        scale = self.param("scale", ones, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt((wide * wide).mean(axis=-1, keepdims=True) + self.epsilon)
        scale = scale.astype(self.dtype).reshape((1,) * (x.ndim - 1) + scale.shape)
        return scale * wide.astype(self.dtype)


def frequencies(dim: int, theta: float) -> Float[np.ndarray, " f"]:
    """Returns theta^(-2i / dim) for i < dim / 2, in float32 as the original computes it."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return np.float32(1) / np.power(np.float32(theta), exponents)


def rotate_halves(
    x: Float[Array, "b l n d"], cos: Float[Array, "b l f"], sin: Float[Array, "b l f"]
) -> Float[Array, "b l n d"]:
    """Turns the feature pairs (i, i + d / 2) of every head, in the type of `cos`.

    Wan's and CogVideoX's pairs are others: those of `rope.rotate` are neighbours.

    Args:
        x: queries or keys of n heads.
        cos: cosines of the angles, f = d / 2 of them.
        sin: sines of the angles.

    Returns:
        The same type as `x`.
    """
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
