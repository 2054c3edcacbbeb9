"""Attention as one function, with the implementations behind it."""

import difflib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.dense import dense
from vidpref.models.embeddings import sinusoidal
from vidpref.typing import Array, Bool, Float

IMPLEMENTATIONS = ("xla", "chunked")


def dot_product_attention(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b m n d"],
    v: Float[Array, "b m n d"],
    mask: Bool[Array, "b m"] | None = None,
    *,
    implementation: str = "xla",
    chunk: int = 256,
) -> Float[Array, "b l n d"]:
    """softmax(q k^T / sqrt(d)) v of every head; the softmax in float32.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True for keys that may be seen. A row that sees none returns zeros.
        implementation: "xla" holds all [l, m] weights; "chunked" holds those of `chunk` queries
            at a time, in the backward pass too.
        chunk: queries a chunk.

    Raises:
        ValueError: unknown implementation.
    """
    if implementation not in IMPLEMENTATIONS:
        near = difflib.get_close_matches(implementation, IMPLEMENTATIONS, n=1)
        raise ValueError(
            f"attention implementation {implementation!r} is unknown; "
            f"{f'did you mean {near[0]}?' if near else f'known: {IMPLEMENTATIONS}'}"
        )
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    if implementation == "xla" or q.shape[1] <= chunk:
        return _attend(q, k, v, mask)
    b, l, n, d = q.shape
    padded = jnp.pad(q, ((0, 0), (0, -l % chunk), (0, 0), (0, 0)))
    chunks = jnp.moveaxis(padded.reshape(b, -1, chunk, n, d), 1, 0)
    # recomputed in the backward pass, so that only one chunk's weights ever exist
    out = jax.lax.map(jax.checkpoint(lambda part: _attend(part, k, v, mask)), chunks)
    return jnp.moveaxis(out, 0, 1).reshape(b, -1, n, d)[:, :l]


def _attend(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    logits = jnp.einsum("blnd,bmnd->bnlm", q, k, preferred_element_type=jnp.float32)
    if mask is None:
        weights = jax.nn.softmax(logits, axis=-1)
    else:
        visible = mask[:, None, None, :]
        weights = jax.nn.softmax(jnp.where(visible, logits, jnp.finfo(logits.dtype).min), axis=-1)
        weights = jnp.where(visible, weights, 0.0)  # a row without any visible key gives zeros
    return jnp.einsum("bnlm,bmnd->blnd", weights.astype(v.dtype), v)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the second axis.

    Attributes:
        head_dim: width of one head; must divide the channels.
        positions: adds a sinusoidal position to the inputs of q, k and v.
        zero: start the output projection from zero.
        implementation: of `dot_product_attention`.
        dtype: of the computation.
    """

    head_dim: int
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
        out = dot_product_attention(q, k, v, implementation=self.implementation)
        out = out.reshape(x.shape)
        return dense(c, axes=("heads", "out"), zero=self.zero, dtype=self.dtype, name="out")(out)


class CrossAttention(nn.Module):
    """Multi-head attention of `x` to text tokens; the output projection starts at zero."""

    head_dim: int
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
        out = dot_product_attention(q, k, v, mask, implementation=self.implementation)
        out = out.reshape(x.shape)
        return dense(c, axes=("heads", "out"), zero=True, dtype=self.dtype, name="out")(out)


def _split_heads(x: Array, head_dim: int) -> Array:
    if x.shape[-1] % head_dim:
        raise ValueError(f"head_dim={head_dim} does not divide the {x.shape[-1]} channels")
    return x.reshape(*x.shape[:-1], -1, head_dim)
