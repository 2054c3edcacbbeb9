"""Encoder and decoder of CogVideoX's VAE for one batch of frames.

A convolution over time sees no later frame. What it needs of earlier ones, the last two frames of
its input, is handed from batch to batch: networks are called with what the batch before has `seen`
and return what they have seen themselves, `{}` standing for the start of a clip.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.convolution import SpatialConv
from vidpref.models.norm import GroupNorm
from vidpref.typing import Array, Float

Seen = dict[str, Any]

TIME_LEVELS = 2  # the first two changes of resolution change that of time too
EPSILON = 1e-6  # of the norms that do not follow `norm_eps`


class Encoder(nn.Module):
    """Frames to mean and log variance: every level halves rows and columns, two of them time.

    Attributes:
        features: channels of each level, the finest first.
        blocks: residual blocks of a level.
        latent_channels: half the channels of the output.
        groups: groups of the group norms.
        epsilon: epsilon of the group norms in residual blocks.
        dtype: type of the computation.
    """

    features: tuple[int, ...]
    blocks: int
    latent_channels: int
    groups: int
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], before: Seen
    ) -> tuple[Float[Array, "b t2 h2 w2 z2"], Seen]:
        seen = {}
        options = {"groups": self.groups, "epsilon": self.epsilon, "dtype": self.dtype}

        def block(h: Array, features: int, name: str) -> Array:
            h, seen[name] = ResBlock(features, **options, name=name)(h, before.get(name, {}))
            return h

        h, seen["conv_in"] = causal_conv(x, before, self.features[0], self.dtype, "conv_in")
        for level, features in enumerate(self.features):
            for i in range(self.blocks):
                h = block(h, features, f"down_{level}_{i}")
            if level < len(self.features) - 1:
                h = halve_time(h) if level < TIME_LEVELS else h
                h = downsample(h, self.dtype, f"down_{level}_conv")
        for i in range(2):
            h = block(h, self.features[-1], f"mid_{i}")
        h = nn.silu(GroupNorm(self.groups, EPSILON, self.dtype, name="norm")(h))
        channels = 2 * self.latent_channels
        out, seen["conv_out"] = causal_conv(h, before, channels, self.dtype, "conv_out")
        return out, seen


class Decoder(nn.Module):
    """Latents to frames; every norm is scaled and shifted by the latents.

    Attributes:
        features: channels of each level, the finest first.
        blocks: residual blocks of a level.
        channels: channels of the output.
        groups, dtype: see `Encoder`.
    """

    features: tuple[int, ...]
    blocks: int
    channels: int
    groups: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, latents: Float[Array, "b t h w z"], before: Seen
    ) -> tuple[Float[Array, "b t2 h2 w2 c"], Seen]:
        seen = {}
        options = {"groups": self.groups, "epsilon": EPSILON, "dtype": self.dtype}

        def block(h: Array, features: int, name: str) -> Array:
            module = ResBlock(features, **options, name=name)
            h, seen[name] = module(h, before.get(name, {}), latents)
            return h

        coarsest = self.features[-1]
        h, seen["conv_in"] = causal_conv(latents, before, coarsest, self.dtype, "conv_in")
        for i in range(2):
            h = block(h, coarsest, f"mid_{i}")
        for level, features in enumerate(reversed(self.features)):
            for i in range(self.blocks):
                h = block(h, features, f"up_{level}_{i}")
            if level < len(self.features) - 1:
                t, height, width = h.shape[1:4]
                t = twice_time(t) if level < TIME_LEVELS else t
                h = nearest(h, (t, 2 * height, 2 * width))
                h = SpatialConv(features, dtype=self.dtype, name=f"up_{level}_conv")(h)
        h = nn.silu(SpatialNorm(self.groups, EPSILON, self.dtype, name="norm")(h, latents))
        out, seen["conv_out"] = causal_conv(h, before, self.channels, self.dtype, "conv_out")
        return out, seen


class ResBlock(nn.Module):
    """Two causal convolutions behind norms, added to the input.

    The norms are spatial ones where the block is called with latents.
    """

    features: int
    groups: int
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        before: Seen,
        latents: Float[Array, "b t3 h3 w3 z"] | None = None,
    ) -> tuple[Float[Array, "b t h w d"], Seen]:
        h, seen = x, {}
        for i in (1, 2):
            options = {"groups": self.groups, "epsilon": self.epsilon, "dtype": self.dtype}
            if latents is None:
                h = GroupNorm(**options, name=f"norm{i}")(h)
            else:
                h = SpatialNorm(**options, name=f"norm{i}")(h, latents)
            name = f"conv{i}"
            h, seen[name] = causal_conv(nn.silu(h), before, self.features, self.dtype, name)
        if x.shape[-1] != self.features:
            x = conv(self.features, (1, 1, 1), dtype=self.dtype, name="shortcut")(x)
        return x + h, seen


class SpatialNorm(nn.Module):
    """Group norm whose scale and shift at a position come from the latents there.

    Zheng et al. 2022, "MoVQ", equation 4. The 1x1x1 convolutions are applied before the latents are
    enlarged, where they cost least; nearest neighbours make this the same.
    """

    groups: int
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], latents: Float[Array, "b t2 h2 w2 z"]
    ) -> Float[Array, "b t h w c"]:
        scale, shift = (
            nearest(
                conv(x.shape[-1], (1, 1, 1), dtype=self.dtype, name=name)(latents), x.shape[1:4]
            )
            for name in ("scale", "shift")
        )
        return GroupNorm(self.groups, self.epsilon, self.dtype, name="norm")(x) * scale + shift


def conv(
    features: int,
    kernel: tuple[int, ...],
    *,
    strides: int = 1,
    padding: Any = "VALID",
    dtype: DTypeLike,
    name: str,
) -> nn.Conv:
    """A convolution over the last axes but one whose parameters carry axis names."""
    axes = (*["kernel"] * len(kernel), "in", "out")
    return nn.Conv(
        features,
        kernel,
        strides=strides,
        padding=padding,
        dtype=dtype,
        kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("out",)),
        name=name,
    )


def causal_conv(
    x: Float[Array, "b t h w c"], before: Seen, features: int, dtype: DTypeLike, name: str
) -> tuple[Float[Array, "b t h w d"], Float[Array, "b p h w c"]]:
    """The calling module's 3x3x3 convolution `name`, which sees no later frame.

    Before the clip's first frame stand copies of it.

    Returns:
        The output, and the last two frames seen.
    """
    past = before[name] if before else jnp.concatenate([x[:, :1]] * 2, axis=1)
    x = jnp.concatenate([past, x], axis=1)
    same = ((0, 0), (1, 1), (1, 1))
    return conv(features, (3, 3, 3), padding=same, dtype=dtype, name=name)(x), x[:, -2:]


def downsample(
    x: Float[Array, "b t h w c"], dtype: DTypeLike, name: str
) -> Float[Array, "b t h2 w2 c"]:
    """The calling module's 3x3 convolution `name` of every frame, with stride 2."""
    b, t, *_, c = x.shape
    after = ((0, 1), (0, 1))
    frames = x.reshape(b * t, *x.shape[2:])
    frames = conv(c, (3, 3), strides=2, padding=after, dtype=dtype, name=name)(frames)
    return frames.reshape(b, t, *frames.shape[1:])


def halve_time(x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h w c"]:
    """Means of two frames each; the first of an odd number is left alone."""
    b, t, *rest = x.shape
    odd = t % 2
    means = x[:, odd:].reshape(b, t // 2, 2, *rest).mean(axis=2)
    return jnp.concatenate([x[:, :odd], means], axis=1)


def twice_time(t: int) -> int:
    """The number of frames after doubling; the first of an odd number is left alone."""
    return 2 * t - t % 2


def nearest(
    x: Float[Array, "b t h w c"], size: tuple[int, int, int]
) -> Float[Array, "b t2 h2 w2 c"]:
    """Repeats frames, rows and columns to (t, h, w); the first frame of an odd number only once."""
    t, h, w = size
    x = jnp.repeat(jnp.repeat(x, h // x.shape[2], axis=2), w // x.shape[3], axis=3)
    if t == x.shape[1]:
        return x
    alone = t % 2
    times = (t - alone) // (x.shape[1] - alone)
    return jnp.concatenate([x[:, :alone], jnp.repeat(x[:, alone:], times, axis=1)], axis=1)
