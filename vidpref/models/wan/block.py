"""The block that Wan's transformer repeats."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention import attention_of_tokens, attention_to_whole
from vidpref.models.dense import dense
from vidpref.models.norm import layer_norm
from vidpref.models.rope import rotate
from vidpref.models.spread import Division, spread_batch
from vidpref.typing import Array, Float


class WanBlock(nn.Module):
    """Modulated attention to the clip, attention to text and image, modulated perceptron.

    The modulation of all blocks is one projection of the time, plus a learned vector a block.

    Attributes:
        division: where the tokens of the clip lie.
        heads: heads of the attention.
        ffn_dim: hidden width of the perceptron.
        cross_norm: whether there is a norm before the attention to the text.
        eps: epsilon of the norms.
        attention: implementation of `dot_product_attention`.
        dtype: type of the computation, besides norms and modulation in float32.
    """

    division: Division
    heads: int
    ffn_dim: int
    cross_norm: bool
    eps: float
    attention: str
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        modulation: Float[Array, "b 6 d"],
        text: Float[Array, "b m d"],
        image: Float[Array, "b i d"] | None,
        rotary: tuple[Float[Array, "l f"], Float[Array, "l f"]],
    ) -> tuple[Float[Array, "b l d"], None]:
        width, dtype = x.shape[-1], self.dtype
        modulation, text = spread_batch((modulation, text))
        x = self.division.spread(x)
        table = self.param(
            "scale_shift_table",
            nn.with_logical_partitioning(nn.initializers.normal(width**-0.5), (None, None, "out")),
            (1, 6, width),
        )
        parts = jnp.split(table + modulation, 6, axis=1)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = parts
        options = {
            "division": self.division,
            "heads": self.heads,
            "eps": self.eps,
            "implementation": self.attention,
            "dtype": dtype,
        }

        y = (layer_norm(self.eps)(x) * (1 + scale) + shift).astype(dtype)
        y = WanAttention(**options, name="self")(y, y, rotary=rotary)
        x = (x + y * gate).astype(dtype)

        y = x
        if self.cross_norm:
            y = layer_norm(self.eps, affine=True, name="cross_norm")(x).astype(dtype)
        x = x + WanAttention(**options, name="cross")(y, text, image=image)

        y = (layer_norm(self.eps)(x) * (1 + ffn_scale) + ffn_shift).astype(dtype)
        y = jax.nn.gelu(dense(self.ffn_dim, dtype=dtype, name="mlp_in")(y))
        y = dense(width, dtype=dtype, name="mlp_out")(y)
        return self.division.spread((x + y * ffn_gate).astype(dtype)), None


class WanAttention(nn.Module):
    """Attention with a norm over all heads of the queries and of the keys.

    Attributes:
        division: where the tokens that ask lie.
        heads: heads of the attention.
        eps: epsilon of the norms.
        implementation: implementation of `dot_product_attention`.
        dtype: type of the computation.
    """

    division: Division
    heads: int
    eps: float
    implementation: str
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        context: Float[Array, "b m d"],
        *,
        rotary: tuple[Float[Array, "l f"], Float[Array, "l f"]] | None = None,
        image: Float[Array, "b i d"] | None = None,
    ) -> Float[Array, "b l d"]:
        """Attends from `x` to `context`; what it finds in `image` by a softmax of its own is added.

        Args:
            x: tokens that ask.
            context: tokens that are seen.
            rotary: turns queries and keys, which then are of the same tokens.
            image: more tokens that are seen, with their own keys and values.
        """
        width = x.shape[-1]
        query = self._heads("query", x, normed=True)
        key = self._heads("key", context, normed=True)
        value = self._heads("value", context)
        options = {"division": self.division, "implementation": self.implementation}
        if rotary is not None:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
            out = attention_of_tokens(query, key, value, **options)
        else:
            out = attention_to_whole(query, key, value, None, **options)
        if image is not None:
            key = self._heads("image_key", image, normed=True)
            value = self._heads("image_value", image)
            out += attention_to_whole(query, key, value, None, **options)
        out = out.reshape(x.shape)
        return dense(width, axes=("heads", "out"), dtype=self.dtype, name="out")(out)

    @nn.nowrap
    def _heads(self, name: str, x: Array, normed: bool = False) -> Array:
        """Projects, norms over all heads, and splits into heads."""
        x = dense(x.shape[-1], axes=("in", "heads"), dtype=self.dtype, name=name)(x)
        if normed:
            x = nn.RMSNorm(
                epsilon=self.eps,
                dtype=self.dtype,
                scale_init=nn.with_logical_partitioning(nn.initializers.ones, ("heads",)),
                name=f"{name}_norm",
            )(x)
        return x.reshape(*x.shape[:-1], self.heads, -1)
