"""Norms in float32: group norm over all positions of a clip, layer norm, and stored statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.typing import Array, Float


class GroupNorm(nn.Module):
    """Group norm (Wu and He, 2018) with statistics over frames and positions, in float32.

    Sums are taken a channel and only then combined to groups, so that the large array is never
    reshaped to [.., groups, c / groups], which costs TPUs and CPUs a change of layout.

    Attributes:
        groups: number of groups; must divide the channels.
        epsilon: added to the variance.
        dtype: type of the result.
    """

    groups: int
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        c = x.shape[-1]
        if c % self.groups:
            raise ValueError(f"groups={self.groups} does not divide the {c} channels")
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        scale = self.param("scale", nn.with_logical_partitioning(ones, (None,)), (c,))
        bias = self.param("bias", nn.with_logical_partitioning(zeros, (None,)), (c,))
        wide = x.astype(jnp.float32)
        mean = self._by_group(wide.mean(axis=(1, 2, 3)))
        variance = self._by_group((wide * wide).mean(axis=(1, 2, 3))) - mean * mean
        factor = scale[None] * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + self.epsilon)
        shift = bias[None] - mean * factor
        return (wide * factor[:, None, None, None] + shift[:, None, None, None]).astype(self.dtype)

    def _by_group(self, per_channel: Float[Array, "b c"]) -> Float[Array, "b c"]:
        b, c = per_channel.shape
        groups = per_channel.reshape(b, self.groups, -1).mean(axis=-1)
        return jnp.repeat(groups, c // self.groups, axis=-1)


def layer_norm(
    epsilon: float = 1e-6,
    *,
    affine: bool = False,
    dtype: DTypeLike = jnp.float32,
    fast_variance: bool = True,
    name: str | None = None,
) -> nn.LayerNorm:
    """Returns a layer norm whose statistics are computed in float32.

    Args:
        epsilon: number added to the variance.
        affine: whether it has a scale and a bias.
        dtype: type of the result.
        fast_variance: take the variance as `E[x^2] - E[x]^2`, which is the difference of two large
            numbers where the mean is large.
        name: name of the layer, under which its parameters lie.
    """
    return nn.LayerNorm(
        epsilon=epsilon,
        use_scale=affine,
        use_bias=affine,
        dtype=dtype,
        use_fast_variance=fast_variance,
        scale_init=nn.with_logical_partitioning(nn.initializers.ones, (None,)),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
        name=name,
    )


class StoredNorm(nn.Module):
    """Batch norm by the mean and the variance that training has left.

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        starts = {"scale": ones, "bias": zeros, "mean": zeros, "variance": ones}
        own = {
            name: self.param(
                name, nn.with_logical_partitioning(start, (None,)), x.shape[-1:], jnp.float32
            )
            for name, start in starts.items()
        }
        factor = own["scale"] * jax.lax.rsqrt(own["variance"] + self.epsilon)
        shift = own["bias"] - own["mean"] * factor
        over = (1,) * (x.ndim - 1) + (-1,)
        return x * factor.reshape(over) + shift.reshape(over)
