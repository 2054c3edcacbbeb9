"""A small diffusion transformer over tubelets, with the interface of the UNet."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention import CrossAttention, SelfAttention
from vidpref.models.condition import Condition
from vidpref.models.convolution import channels_to_space
from vidpref.models.dense import dense
from vidpref.models.embeddings import ConditionEmbedding, sinusoidal
from vidpref.models.inputs import check_inputs, network_inputs, spread_batch
from vidpref.models.scan import scan_blocks
from vidpref.typing import Array, Bool, Float


class DiTBlock(nn.Module):
    """Self-attention, cross-attention and perceptron, modulated by adaLN-zero.

    Peebles and Xie, "Scalable Diffusion Models with Transformers", section 3.2.
    """

    head_dim: int
    mlp_ratio: int
    cross: bool
    attention: str
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        embedding: Float[Array, "b e"],
        text: Float[Array, "b m e"],
        text_mask: Bool[Array, "b m"],
    ) -> tuple[Float[Array, "b l d"], None]:
        width = x.shape[-1]
        options = {"implementation": self.attention, "dtype": self.dtype}
        modulation = dense(6 * width, zero=True, dtype=self.dtype, name="modulation")(
            jax.nn.silu(embedding)
        )
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation[:, None], 6, axis=-1)
        y = _layer_norm(x, self.dtype) * (1 + scale1) + shift1
        x = x + gate1 * SelfAttention(self.head_dim, zero=False, name="self", **options)(y)
        if self.cross:
            y = _layer_norm(x, self.dtype)
            x = x + CrossAttention(self.head_dim, name="cross", **options)(y, text, text_mask)
        y = _layer_norm(x, self.dtype) * (1 + scale2) + shift2
        y = dense(self.mlp_ratio * width, dtype=self.dtype, name="mlp_in")(y)
        y = dense(width, dtype=self.dtype, name="mlp_out")(jax.nn.gelu(y))
        return x + gate2 * y, None


class DiT(nn.Module):
    """A text-, first-frame- and low-resolution-conditioned diffusion transformer.

    Attributes:
        channels: colour channels of a clip, in and out.
        text_dim: width of the text embedding.
        patch: (t, h, w) of one tubelet, which is one token.
        width: features of a token.
        layers: number of blocks.
        head_dim: width of an attention head.
        mlp_ratio: hidden width of the perceptron over `width`.
        cond_dim: width of the time and text conditioning.
        cross: whether blocks attend to the text; its pooled form is always in the modulation.
        first_frame, low_res, residual, attention, remat, unroll, dtype: see `UNet3D`.
    """

    channels: int
    text_dim: int
    patch: tuple[int, int, int] = (4, 4, 4)
    width: int = 128
    layers: int = 4
    head_dim: int = 32
    mlp_ratio: int = 4
    cond_dim: int = 128
    cross: bool = True
    first_frame: bool = True
    low_res: bool = False
    residual: str = ""
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], tau: Float[Array, " b"], condition: Condition
    ) -> Float[Array, "b t h w c"]:
        check_inputs(
            x,
            condition,
            multiple=self.patch,
            text_dim=self.text_dim,
            first_frame=self.first_frame,
            low_res=self.low_res,
            residual=self.residual,
        )
        x, tau, condition = spread_batch((x, tau, condition))
        dtype = jnp.dtype(self.dtype)
        inputs, base = network_inputs(
            x, condition, patch=self.patch, residual=self.residual, dtype=dtype
        )
        embedding, tokens = ConditionEmbedding(self.cond_dim, dtype, name="condition")(
            tau, condition
        )
        b, *grid, _ = inputs.shape
        h = dense(self.width, dtype=dtype, name="stem")(inputs.reshape(b, math.prod(grid), -1))
        h = h + _grid_positions(tuple(grid), self.width).astype(dtype)[None]
        blocks = scan_blocks(
            DiTBlock,
            length=self.layers,
            in_axes=(nn.broadcast, nn.broadcast, nn.broadcast),
            remat=self.remat,
            unroll=self.unroll,
        )
        h, _ = blocks(
            self.head_dim, self.mlp_ratio, self.cross, self.attention, dtype, name="blocks"
        )(h, embedding, tokens, condition.text_mask)
        modulation = dense(2 * self.width, zero=True, dtype=dtype, name="modulation")(
            jax.nn.silu(embedding)
        )
        shift, scale = jnp.split(modulation[:, None], 2, axis=-1)
        h = _layer_norm(h, dtype) * (1 + scale) + shift
        outputs = self.channels * math.prod(self.patch)
        out = dense(outputs, zero=True, dtype=dtype, name="head")(h)
        out = channels_to_space(out.reshape(b, *grid, outputs), self.patch).astype(jnp.float32)
        return out if base is None else base + out


def _layer_norm(x: Array, dtype: DTypeLike) -> Array:
    # without parameters, as adaLN brings its own scale and shift
    return nn.LayerNorm(use_scale=False, use_bias=False, epsilon=1e-6, dtype=dtype)(x)


def _grid_positions(grid: tuple[int, int, int], width: int) -> Float[Array, "l d"]:
    """Sinusoidal positions of the three axes side by side: t and h a third each, w the rest."""
    third = width // 3 // 2 * 2
    dims = (third, third, width - 2 * third)
    index = jnp.indices(grid, dtype=jnp.float32).reshape(3, -1)
    return jnp.concatenate([sinusoidal(index[i], dims[i]) for i in range(3)], axis=-1)
