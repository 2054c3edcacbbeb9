"""VideoAlign's generator: a transformer with attention inside each frame, then over the clip."""

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


class STDiTBlock(nn.Module):
    """2-D spatial attention, 3-D attention, cross-attention and perceptron (VideoAlign, app. D).

    The appendix names the four and their order only. The modulation is that of `DiTBlock`:
    adaLN-zero around all but the cross-attention, whose output projection starts at zero.

    Attributes:
        frames: the l tokens are those of `frames` frames, one frame after the other.
        head_dim, mlp_ratio, attention, dtype: see `VideoTransformer`.
        division: where the tokens lie; None for whole ones.
    """

    frames: int
    head_dim: int
    mlp_ratio: int
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
        modulation = dense(9 * width, zero=True, dtype=self.dtype, name="modulation")(
            jax.nn.silu(embedding)
        )
        spatial, full, mlp = jnp.split(modulation[:, None], 3, axis=-1)

        shift, scale, gate = jnp.split(spatial, 3, axis=-1)
        y = layer_norm(dtype=self.dtype)(x) * (1 + scale) + shift
        inside = SelfAttention(
            self.head_dim, groups=self.frames, zero=False, name="spatial", **options
        )
        x = x + gate * inside(y)

        shift, scale, gate = jnp.split(full, 3, axis=-1)
        y = layer_norm(dtype=self.dtype)(x) * (1 + scale) + shift
        x = x + gate * SelfAttention(self.head_dim, zero=False, name="full", **options)(y)

        y = layer_norm(dtype=self.dtype)(x)
        x = x + CrossAttention(self.head_dim, name="cross", **options)(y, text, text_mask)

        shift, scale, gate = jnp.split(mlp, 3, axis=-1)
        y = layer_norm(dtype=self.dtype)(x) * (1 + scale) + shift
        return division.spread(x + gate * perceptron(y, self.mlp_ratio, self.dtype)), None


class STDiT(VideoTransformer):
    """The spatio-temporal transformer of VideoAlign (appendix D); see `VideoTransformer`."""

    @nn.nowrap
    def block(self, frames: int) -> tuple[type[nn.Module], dict]:
        """See `VideoTransformer.block`."""
        return STDiTBlock, {
            "frames": frames,
            "head_dim": self.head_dim,
            "mlp_ratio": self.mlp_ratio,
            "attention": self.attention,
            "dtype": jnp.dtype(self.dtype),
        }
