"""Attention layers of networks with their own blocks."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.attention.divided import attention_of_tokens, attention_to_whole
from vidpref.models.dense import dense
from vidpref.models.embeddings import sinusoidal
from vidpref.models.spread import Division
from vidpref.typing import Array, Bool, Float


class SelfAttention(nn.Module):
    """Multi-head self-attention over the second axis.

    Attributes:
        division: where the tokens lie; None for whole ones.
        groups: tokens see those of their own group, one of so many equal ones.
        head_dim: width of one head; must divide the channels.
        positions: adds a sinusoidal position to the inputs of q, k and v.
        zero: start the output projection from zero.
        implementation: implementation of `dot_product_attention`.
        dtype: type of the computation.
    """

    head_dim: int
    division: Division | None = None
    groups: int = 1
    positions: bool = False
    zero: bool = True
    implementation: str = "xla"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> Float[Array, "b l c"]:
        _, l, c = x.shape
        if self.positions:
            x = x + sinusoidal(jnp.arange(l, dtype=jnp.float32), c).astype(x.dtype)[None]
        qkv = dense(3 * c, axes=("in", "heads"), dtype=self.dtype, name="qkv")(x)
        q, k, v = (_split_heads(part, self.head_dim) for part in jnp.split(qkv, 3, axis=-1))
        out = attention_of_tokens(
            q,
            k,
            v,
            self.division or Division(l),
            groups=self.groups,
            implementation=self.implementation,
        )
        out = out.reshape(x.shape)
        return dense(c, axes=("heads", "out"), zero=self.zero, dtype=self.dtype, name="out")(out)


class CrossAttention(nn.Module):
    """Multi-head attention of `x` to text tokens; the output projection starts at zero.

    Attributes:
        head_dim, division, implementation, dtype: see `SelfAttention`.
    """

    head_dim: int
    division: Division | None = None
    implementation: str = "xla"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l c"], text: Float[Array, "b m d"], mask: Bool[Array, "b m"]
    ) -> Float[Array, "b l c"]:
        c = x.shape[-1]
        q = dense(c, axes=("in", "heads"), dtype=self.dtype, name="query")(x)
        kv = dense(2 * c, axes=("in", "heads"), dtype=self.dtype, name="key_value")(text)
        q, k, v = (_split_heads(part, self.head_dim) for part in (q, *jnp.split(kv, 2, axis=-1)))
        division = self.division or Division(x.shape[1])
        out = attention_to_whole(q, k, v, mask, division, implementation=self.implementation)
        out = out.reshape(x.shape)
        return dense(c, axes=("heads", "out"), zero=True, dtype=self.dtype, name="out")(out)


def _split_heads(x: Array, head_dim: int) -> Array:
    if x.shape[-1] % head_dim:
        raise ValueError(f"head_dim={head_dim} does not divide the {x.shape[-1]} channels")
    return x.reshape(*x.shape[:-1], -1, head_dim)
