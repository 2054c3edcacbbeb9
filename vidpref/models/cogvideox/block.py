"""The block of CogVideoX: attention over text and video tokens with a modulation for each."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention import attention_of_tokens
from vidpref.models.dense import dense
from vidpref.models.dit.blocks import perceptron
from vidpref.models.norm import layer_norm
from vidpref.models.rope import rotate
from vidpref.models.spread import Division, spread_batch
from vidpref.typing import Array, Float

QK_EPSILON = 1e-6  # of the norms of queries and keys, whatever `norm_eps` is


class CogVideoXBlock(nn.Module):
    """Attention over text and video, then a perceptron, both behind an expert adaptive layer norm.

    Attributes:
        division: where the tokens lie.
        text_tokens: the first tokens, which are text.
        head_dim, qkv_bias, epsilon, attention, dtype: see `CogVideoX`.
    """

    division: Division
    text_tokens: int
    head_dim: int
    qkv_bias: bool
    epsilon: float
    attention: str
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        embedding: Float[Array, "b e"],
        rotary: tuple[Float[Array, "l f"], Float[Array, "l f"]] | None,
    ) -> tuple[Float[Array, "b l d"], None]:
        x, embedding = self.division.spread(x), spread_batch(embedding)
        b, l, width = x.shape
        y, gate = self._modulated(x, embedding, "attention")
        options = {"axes": ("in", "heads"), "bias": self.qkv_bias, "dtype": self.dtype}
        q, k, v = (
            dense(width, **options, name=name)(y).reshape(b, l, -1, self.head_dim)
            for name in ("query", "key", "value")
        )
        q = affine_norm(QK_EPSILON, self.dtype, "query_norm")(q)
        k = affine_norm(QK_EPSILON, self.dtype, "key_norm")(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        y = attention_of_tokens(q, k, v, self.division, implementation=self.attention)
        y = y.reshape(b, l, width)
        x = x + gate * dense(width, axes=("heads", "out"), dtype=self.dtype, name="out")(y)
        y, gate = self._modulated(x, embedding, "mlp")
        return self.division.spread(x + gate * perceptron(y, 4, self.dtype)), None

    @nn.nowrap
    def _modulated(self, x: Array, embedding: Array, name: str) -> tuple[Array, Array]:
        """One layer norm of all tokens; a shift, scale and gate each for video and for text."""
        b, l, width = x.shape
        modulation = dense(6 * width, zero=True, dtype=self.dtype, name=f"{name}_modulation")
        video, text = jnp.moveaxis(modulation(embedding).reshape(b, 2, 3, 1, width), 1, 0)
        is_text = (jnp.arange(l) < self.text_tokens)[None, :, None]
        shift, scale, gate = (jnp.where(is_text, text[:, i], video[:, i]) for i in range(3))
        y = affine_norm(self.epsilon, self.dtype, f"{name}_norm")(x)
        return y * (1 + scale) + shift, gate


def affine_norm(epsilon: float, dtype: DTypeLike, name: str) -> nn.LayerNorm:
    """Returns a layer norm of CogVideoX, whose features have large means."""
    return layer_norm(epsilon, affine=True, dtype=dtype, fast_variance=False, name=name)
