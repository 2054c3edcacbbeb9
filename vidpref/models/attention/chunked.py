"""Attention whose memory is linear in the length, in any backend's own matrix products."""

import functools

import jax
import jax.numpy as jnp

from vidpref.typing import Array, Bool, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def chunked_attention(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b m n d"],
    v: Float[Array, "b m n d"],
    mask: Bool[Array, "b m"] | None,
    chunk: int,
    causal: bool = False,
) -> Float[Array, "b l n d"]:
    """softmax(q k^T) v with the weights of `chunk` queries at a time, in the backward pass too.

    The backward pass makes the weights of a chunk again from the logarithm of their sum, as in
    FlashAttention (Dao et al. 2022, algorithm 4), and adds up the gradients of keys and values in
    float32.

    Args:
        q: queries, already scaled.
        k: keys.
        v: values.
        mask: True for keys that may be seen. A row that sees none returns zeros.
        chunk: queries a chunk.
        causal: whether query i sees the keys up to i only.
    """
    return _forward(q, k, v, mask, chunk, causal)[0]


def _forward(
    q: Array, k: Array, v: Array, mask: Array | None, chunk: int, causal: bool
) -> tuple[Array, tuple[Array | None, ...]]:
    keys, values = _heads_first(k), _heads_first(v)

    def attend(part: tuple[Array, Array]) -> tuple[Array, Array]:
        queries, start = part
        seen = _seen(mask, start, chunk, k.shape[1], causal)
        logits = _logits(queries, keys, seen)
        top = logits.max(axis=-1, keepdims=True)
        weights = _hide(jnp.exp(logits - top), seen)
        total = weights.sum(axis=-1, keepdims=True)
        total = jnp.where(total == 0.0, 1.0, total)
        out = _product("bnlm,bnmd->bnld", weights.astype(values.dtype), values) / total
        return out.astype(q.dtype), top + jnp.log(total)

    out, log_sum = jax.lax.map(attend, (_chunks(q, chunk), _starts(q, chunk)))
    out = _whole(out, q.shape[1])
    return out, (q, k, v, mask, out, log_sum)


def _backward(
    chunk: int, causal: bool, residuals: tuple[Array | None, ...], out_grad: Array
) -> tuple[Array | None, ...]:
    q, k, v, mask, out, log_sum = residuals
    keys, values = _heads_first(k), _heads_first(v)

    def add(totals: tuple[Array, Array], part: tuple[Array, ...]):
        queries, start, out, log_sum, out_grad = part
        seen = _seen(mask, start, chunk, k.shape[1], causal)
        weights = _hide(jnp.exp(_logits(queries, keys, seen) - log_sum), seen)
        # what a change of all logits of a query would do, which the softmax takes out
        common = _product("bnld,bnld->bnl", out, out_grad)[..., None]
        logits_grad = weights * (_product("bnld,bnmd->bnlm", out_grad, values) - common)
        logits_grad = logits_grad.astype(q.dtype)
        keys_grad, values_grad = totals
        keys_grad += _product("bnld,bnlm->bndm", queries, logits_grad)
        values_grad += _product("bnld,bnlm->bndm", out_grad, weights.astype(values.dtype))
        queries_grad = _product("bnlm,bnmd->bnld", logits_grad, keys).astype(q.dtype)
        return (keys_grad, values_grad), queries_grad

    b, n, m, d = keys.shape
    zeros = (jnp.zeros((b, n, d, m), jnp.float32),) * 2
    starts = _starts(q, chunk)
    parts = (_chunks(q, chunk), starts, _chunks(out, chunk), log_sum, _chunks(out_grad, chunk))
    (keys_grad, values_grad), queries_grad = jax.lax.scan(add, zeros, parts)
    return (
        _whole(queries_grad, q.shape[1]),
        keys_grad.transpose(0, 3, 1, 2).astype(k.dtype),
        values_grad.transpose(0, 3, 1, 2).astype(v.dtype),
        None,
    )


chunked_attention.defvjp(_forward, _backward)

_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _seen(
    mask: Array | None, start: Array, chunk: int, keys: int, causal: bool
) -> Bool[Array, "b 1 l m"] | None:
    """Which keys the queries of a chunk see; None for all."""
    seen = None if mask is None else mask[:, None, None]
    if not causal:
        return seen
    ahead = jnp.arange(keys)[None] <= start + jnp.arange(chunk)[:, None]
    ahead = ahead[None, None]
    return ahead if seen is None else seen & ahead


def _logits(queries: Array, keys: Array, seen: Array | None) -> Array:
    logits = _product("bnld,bnmd->bnlm", queries, keys)
    return logits if seen is None else jnp.where(seen, logits, jnp.finfo(logits.dtype).min)


def _hide(weights: Array, seen: Array | None) -> Array:
    """Zeros for hidden keys, also in a row without any visible one."""
    return weights if seen is None else jnp.where(seen, weights, 0.0)


def _heads_first(x: Array) -> Array:
    """[b, l, n, d] to [b, n, l, d], which XLA's matrix products on CPU like best; and back."""
    return jnp.swapaxes(x, 1, 2)


def _chunks(x: Array, chunk: int) -> Array:
    """[b, l, n, d] to [l / chunk, b, n, chunk, d], the last chunk filled with zeros."""
    b, l, n, d = x.shape
    x = jnp.pad(x, ((0, 0), (0, -l % chunk), (0, 0), (0, 0)))
    return x.reshape(b, -1, chunk, n, d).transpose(1, 0, 3, 2, 4)


def _starts(x: Array, chunk: int) -> Array:
    """The number of the first query of each chunk."""
    return jnp.arange(0, x.shape[1], chunk)


def _whole(chunks: Array, length: int) -> Array:
    """The inverse of `_chunks`."""
    x = chunks.transpose(1, 0, 3, 2, 4)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]
