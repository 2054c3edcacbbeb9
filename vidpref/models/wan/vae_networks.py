"""Encoder and decoder of Wan's video autoencoder, and how they go through a clip."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.wan.vae_block import (
    CausalConv,
    ChannelNorm,
    Downsample,
    Memory,
    Middle,
    ResidualBlock,
    Upsample,
)
from vidpref.typing import Array, Float


class WanEncoder(nn.Module):
    """A chunk of a clip to moments of the latent.

    Attributes:
        stem: channels before the first level.
        features: channels of the levels, the largest pictures first.
        blocks: residual blocks of a level.
        time: whether time halves after each level but the last.
        outputs: channels of the result.
        attention: implementation of `dot_product_attention`.
        dtype: type of the computation.
    """

    stem: int
    features: tuple[int, ...]
    blocks: int
    time: tuple[bool, ...]
    outputs: int
    attention: str
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], memory: Memory
    ) -> Float[Array, "b t2 h2 w2 z"]:
        x = CausalConv(self.stem, dtype=self.dtype, name="conv_in")(x, memory)
        for level, features in enumerate(self.features):
            for i in range(self.blocks):
                x = ResidualBlock(features, self.dtype, name=f"level{level}_block{i}")(x, memory)
            if level < len(self.time):
                sample = Downsample(self.time[level], self.dtype, name=f"level{level}_sample")
                x = sample(x, memory)
        x = Middle(self.attention, self.dtype, name="middle")(x, memory)
        return _head(x, memory, self.outputs, self.dtype)


class WanDecoder(nn.Module):
    """Steps of a latent to frames; see `WanEncoder`, with the smallest pictures first."""

    stem: int
    features: tuple[int, ...]
    blocks: int
    time: tuple[bool, ...]
    outputs: int
    attention: str
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w z"], memory: Memory
    ) -> Float[Array, "b t2 h2 w2 c"]:
        x = CausalConv(self.stem, dtype=self.dtype, name="conv_in")(x, memory)
        x = Middle(self.attention, self.dtype, name="middle")(x, memory)
        for level, features in enumerate(self.features):
            for i in range(self.blocks):
                x = ResidualBlock(features, self.dtype, name=f"level{level}_block{i}")(x, memory)
            if level < len(self.time):
                sample = Upsample(self.time[level], self.dtype, name=f"level{level}_sample")
                x = sample(x, memory)
        return _head(x, memory, self.outputs, self.dtype)


def _head(x: Array, memory: Memory, outputs: int, dtype: DTypeLike) -> Array:
    """The calling network's last layers."""
    x = jax.nn.silu(ChannelNorm(3, dtype, name="norm_out")(x))
    return CausalConv(outputs, dtype=dtype, name="conv_out")(x, memory)


def by_chunks(
    network: nn.Module, x: Float[Array, "b t h w c"], frames: int
) -> Float[Array, "b t2 h2 w2 d"]:
    """Runs the first frame, then `frames` at a time with the memory of those before."""
    memory = Memory()
    first = network(x[:, :1], memory)
    if x.shape[1] == 1:
        return first

    def step(network: nn.Module, kept: tuple, chunk: Array) -> tuple[tuple, Array]:
        memory = Memory(kept)
        out = network(chunk, memory)
        return tuple(memory.kept), out

    scan = nn.scan(
        step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
    )
    chunks = x[:, 1:].reshape(x.shape[0], -1, frames, *x.shape[2:])
    _, rest = scan(network, tuple(memory.kept), chunks)
    return jnp.concatenate([first, rest.reshape(x.shape[0], -1, *rest.shape[3:])], axis=1)
