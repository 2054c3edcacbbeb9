"""The layers of Wan's causal video autoencoder, which see a clip chunk by chunk."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention import dot_product_attention
from vidpref.models.convolution import channels_to_space
from vidpref.typing import Array, Float


class Memory:
    """The frames before a chunk, for each convolution in time, in the order of their calls.

    Attributes:
        first: whether nothing came before; then convolutions see zeros.
        kept: what the convolutions keep for the next chunk.
    """

    def __init__(self, kept: Sequence[Array] | None = None):
        self.first = kept is None
        self.kept: list[Array] = []
        self._before = None if kept is None else iter(kept)

    def extend(
        self, x: Float[Array, "b t h w c"], frames: int
    ) -> Float[Array, "b t+{frames} h w c"]:
        """Puts the `frames` that came before in front of a chunk, and keeps its last ones."""
        if self._before is None:
            before = jnp.zeros((x.shape[0], frames, *x.shape[2:]), x.dtype)
        else:
            before = next(self._before)
        x = jnp.concatenate([before, x], axis=1)
        self.kept.append(x[:, -frames:])
        return x


class CausalConv(nn.Module):
    """A convolution over time, height and width that does not see later frames.

    Attributes:
        features: output channels.
        kernel: (t, h, w); height and width are zero-padded to the same size.
        stride: stride in time. The kernel's first position is at the last frame of the chunk
            before.
        dtype: type of the computation.
    """

    features: int
    kernel: tuple[int, int, int] = (3, 3, 3)
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], memory: Memory) -> Float[Array, "b t2 h w f"]:
        kernel, bias = _parameters(self, (*self.kernel, x.shape[-1], self.features))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        kt, kh, kw = self.kernel
        if kt > self.stride:
            x = memory.extend(x, kt - self.stride)
        out = jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, 1, 1),
            ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2)),
            dimension_numbers=("NTHWC", "THWIO", "NTHWC"),
        )
        return out + bias[None, None, None, None]


class FrameConv(nn.Module):
    """A convolution of every frame.

    Attributes:
        features: output channels.
        kernel: height and width.
        stride: stride in height and width, which it must divide; padded at the end only when it is
            2.
        dtype: type of the computation.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 f"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel, bias = _parameters(self, shape)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        out = jax.lax.conv_general_dilated(
            x.reshape(-1, *x.shape[2:]),
            kernel,
            (self.stride, self.stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (out + bias[None, None, None]).reshape(*x.shape[:2], *out.shape[1:3], -1)


class ChannelNorm(nn.Module):
    """Every position's features on the sphere of radius sqrt(c), times a learned vector.

    Attributes:
        axes: axes of the parameter besides its features, all of size one, as the original has them.
        dtype: type of the result.
    """

    axes: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        c = x.shape[-1]
        ones = nn.with_logical_partitioning(nn.initializers.ones, (None,) * (self.axes + 1))
        gamma = self.param("gamma", ones, (1,) * self.axes + (c,)).reshape(c)
        wide = x.astype(jnp.float32)
        square = (wide * wide).sum(axis=-1, keepdims=True)
        unit = wide * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
        return (unit * (c**0.5 * gamma)[None, None, None, None]).astype(self.dtype)


class ResidualBlock(nn.Module):
    """Two normed causal convolutions and a shortcut.

    Attributes:
        features: output channels.
        dtype: type of the computation.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], memory: Memory) -> Float[Array, "b t h w f"]:
        shortcut = x
        if x.shape[-1] != self.features:
            conv = CausalConv(self.features, (1, 1, 1), dtype=self.dtype, name="shortcut")
            shortcut = conv(x, memory)
        for number in (1, 2):
            x = jax.nn.silu(ChannelNorm(3, self.dtype, name=f"norm{number}")(x))
            x = CausalConv(self.features, dtype=self.dtype, name=f"conv{number}")(x, memory)
        return x + shortcut


class FrameAttention(nn.Module):
    """Attention of one head inside every frame, added to its input.

    Attributes:
        attention: implementation of `dot_product_attention`.
        dtype: type of the computation.
    """

    attention: str
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        b, t, h, w, c = x.shape
        y = ChannelNorm(2, self.dtype, name="norm")(x)
        qkv = FrameConv(3 * c, 1, dtype=self.dtype, name="qkv")(y)
        q, k, v = jnp.split(qkv.reshape(b * t, h * w, 1, 3 * c), 3, axis=-1)
        y = dot_product_attention(q, k, v, implementation=self.attention).reshape(x.shape)
        return x + FrameConv(c, 1, dtype=self.dtype, name="out")(y)


class Middle(nn.Module):
    """Attention between two residual blocks.

    Attributes:
        attention: implementation of `dot_product_attention`.
        dtype: type of the computation.
    """

    attention: str
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], memory: Memory) -> Float[Array, "b t h w c"]:
        x = ResidualBlock(x.shape[-1], self.dtype, name="first")(x, memory)
        x = FrameAttention(self.attention, self.dtype, name="attention")(x)
        return ResidualBlock(x.shape[-1], self.dtype, name="second")(x, memory)


class Downsample(nn.Module):
    """Halves height and width, and with `time` the frames after the clip's first.

    Attributes:
        time: whether frames are halved.
        dtype: type of the computation.
    """

    time: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], memory: Memory
    ) -> Float[Array, "b t2 h2 w2 c"]:
        c = x.shape[-1]
        x = FrameConv(c, stride=2, dtype=self.dtype, name="space")(x)
        if not self.time:
            return x
        # of one frame it makes none, but remembers it
        halved = CausalConv(c, (3, 1, 1), 2, self.dtype, name="time")(x, memory)
        return x if memory.first else halved


class Upsample(nn.Module):
    """Doubles height and width, halves the channels, and with `time` doubles later frames.

    The clip's first frame stays one frame, and those after it do not see it here.

    Attributes:
        time: whether frames are doubled.
        dtype: type of the computation.
    """

    time: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], memory: Memory
    ) -> Float[Array, "b t2 h2 w2 f"]:
        c = x.shape[-1]
        if self.time:
            seen = jnp.zeros_like(x) if memory.first else x
            doubled = CausalConv(2 * c, (3, 1, 1), dtype=self.dtype, name="time")(seen, memory)
            x = x if memory.first else channels_to_space(doubled, (2, 1, 1))
        x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        return FrameConv(c // 2, dtype=self.dtype, name="space")(x)


def _parameters(module: nn.Module, shape: tuple[int, ...]) -> tuple[Array, Array]:
    axes = ("kernel",) * (len(shape) - 2) + ("in", "out")
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes)
    zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("out",))
    return module.param("kernel", init, shape), module.param("bias", zeros, shape[-1:])
