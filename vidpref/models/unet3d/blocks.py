"""The one block a 3D-UNet repeats: residual convolutions, then attention over space, time, text."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention import CrossAttention, SelfAttention
from vidpref.models.convolution import SpatialConv
from vidpref.models.dense import dense
from vidpref.models.norm import GroupNorm
from vidpref.models.spread import spread_batch
from vidpref.typing import Array, Bool, Float


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions; the conditioning vector scales and shifts between them.

    The shape is that of the UNet of guided diffusion (Dhariwal and Nichol, 2021).
    """

    features: int
    groups: int
    conv: str = "xla"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], embedding: Float[Array, "b d"]
    ) -> Float[Array, "b t h w f"]:
        h = jax.nn.silu(GroupNorm(self.groups, dtype=self.dtype, name="norm_in")(x))
        h = SpatialConv(self.features, self.conv, dtype=self.dtype, name="conv_in")(h)
        modulation = dense(2 * self.features, zero=True, dtype=self.dtype, name="modulation")(
            jax.nn.silu(embedding)
        )
        scale, shift = jnp.split(modulation[:, None, None, None], 2, axis=-1)
        h = GroupNorm(self.groups, dtype=self.dtype, name="norm_out")(h) * (1 + scale) + shift
        h = jax.nn.silu(h)
        h = SpatialConv(self.features, self.conv, zero=True, dtype=self.dtype, name="conv_out")(h)
        if x.shape[-1] != self.features:
            x = dense(self.features, dtype=self.dtype, name="shortcut")(x)
        return x + h


class UNetBlock(nn.Module):
    """One step of a level's scan.

    Attributes:
        features: channels of the level.
        spatial, temporal, cross: which attention layers it has.
        head_dim: width of an attention head.
        groups: groups of the group norms.
        conv: implementation of the convolutions.
        attention: implementation of the attention.
        emit: whether the output is also stacked by the scan, to become a skip connection.
        dtype: type of the computation.
    """

    features: int
    spatial: bool
    temporal: bool
    cross: bool
    head_dim: int
    groups: int
    conv: str
    attention: str
    emit: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        skip: Float[Array, "b t h w c"] | None,
        embedding: Float[Array, "b d"],
        text: Float[Array, "b l d"],
        text_mask: Bool[Array, "b l"],
    ) -> tuple[Float[Array, "b t h w c"], Float[Array, "b t h w c"] | None]:
        b, t, h, w, c = x.shape
        x, skip = spread_batch((x, skip))  # said again here: the backward pass starts from it
        inputs = x if skip is None else jnp.concatenate([x, skip], axis=-1)
        x = ResidualBlock(self.features, self.groups, self.conv, self.dtype, name="residual")(
            inputs, embedding
        )
        options = {"implementation": self.attention, "dtype": self.dtype}

        def norm(name: str) -> GroupNorm:
            return GroupNorm(self.groups, dtype=self.dtype, name=name)

        if self.spatial:
            y = norm("spatial_norm")(x).reshape(b * t, h * w, c)
            y = SelfAttention(self.head_dim, name="spatial", **options)(y)
            x = x + y.reshape(x.shape)
        if self.temporal:
            y = norm("temporal_norm")(x)
            y = jnp.moveaxis(y, 1, 3).reshape(b * h * w, t, c)
            y = SelfAttention(self.head_dim, positions=True, name="temporal", **options)(y)
            x = x + jnp.moveaxis(y.reshape(b, h, w, t, c), 3, 1)
        if self.cross:
            y = norm("cross_norm")(x).reshape(b, t * h * w, c)
            y = CrossAttention(self.head_dim, name="cross", **options)(y, text, text_mask)
            x = x + y.reshape(x.shape)
        x = spread_batch(x)
        return x, x if self.emit else None
