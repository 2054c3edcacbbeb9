"""A small diffusion transformer over tubelets, with the interface of the UNet."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention import CrossAttention, SelfAttention
from vidpref.models.dense import dense
from vidpref.models.dit.blocks import VideoTransformer, perceptron
from vidpref.models.norm import layer_norm
from vidpref.models.spread import Division
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
    division: Division | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        embedding: Float[Array, "b e"],
        text: Float[Array, "b m e"],
        text_mask: Bool[Array, "b m"],
    ) -> tuple[Float[Array, "b l d"], None]:
        width, division = x.shape[-1], self.division or Division(x.shape[1])
        options = {
            "division": division,
            "implementation": self.attention,
            "dtype": self.dtype,
        }
        x = division.spread(x)
        modulation = dense(6 * width, zero=True, dtype=self.dtype, name="modulation")(
            jax.nn.silu(embedding)
        )
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation[:, None], 6, axis=-1)
        y = layer_norm(dtype=self.dtype)(x) * (1 + scale1) + shift1
        x = x + gate1 * SelfAttention(self.head_dim, zero=False, name="self", **options)(y)
        if self.cross:
            y = layer_norm(dtype=self.dtype)(x)
            x = x + CrossAttention(self.head_dim, name="cross", **options)(y, text, text_mask)
        y = layer_norm(dtype=self.dtype)(x) * (1 + scale2) + shift2
        return division.spread(x + gate2 * perceptron(y, self.mlp_ratio, self.dtype)), None


class DiT(VideoTransformer):
    """Every block attends to all tokens at once, then to the text; see `VideoTransformer`.

    Attributes:
        cross: whether blocks attend to the text; its pooled form is always in the modulation.
    """

    cross: bool = True

    @nn.nowrap
    def block(self, frames: int) -> tuple[type[nn.Module], dict]:
        """See `VideoTransformer.block`."""
        return DiTBlock, {
            "head_dim": self.head_dim,
            "mlp_ratio": self.mlp_ratio,
            "cross": self.cross,
            "attention": self.attention,
            "dtype": jnp.dtype(self.dtype),
        }
