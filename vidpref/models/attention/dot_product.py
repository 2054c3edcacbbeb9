"""Attention as one function, with the implementations behind it."""

import functools
import sys

import jax
import jax.numpy as jnp

from vidpref.config.nearest import nearest
from vidpref.models.attention import cudnn, splash
from vidpref.models.attention.chunked import chunked_attention
from vidpref.models.attention.target import target
from vidpref.typing import Array, Bool, Float

IMPLEMENTATIONS = ("auto", "xla", "chunked", "cudnn", "splash")
CHUNK = 512  # queries; on CPUs larger chunks gain nothing, and smaller ones cost time
_KERNELS = {"splash": splash, "cudnn": cudnn}


def dot_product_attention(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b m g d"],
    v: Float[Array, "b m g d"],
    mask: Bool[Array, "b m"] | None = None,
    *,
    causal: bool = False,
    implementation: str = "xla",
    chunk: int = CHUNK,
) -> Float[Array, "b l n d"]:
    """softmax(q k^T / sqrt(d)) v of every head; the softmax in float32.

    Args:
        q: queries.
        k: keys, of as many heads or of one for every n / g heads of the queries.
        v: values, likewise.
        mask: True for keys that may be seen. A query that sees none returns zeros.
        causal: whether query i sees the keys up to i only.
        implementation: "xla" holds all [l, m] weights; "chunked" those of `chunk` queries at a
            time, in the backward pass too; "cudnn" (NVIDIA GPUs since Ampere, half precision) and
            "splash" (TPU v4 and later) are kernels that hold none. "auto" takes the kernel that
            runs on the `target`, else "chunked" for more than `CHUNK` queries, else "xla"; of
            accelerators it prints once what it took.
        chunk: queries a chunk, at most.

    Raises:
        ValueError: unknown implementation, or a kernel that does not run on the devices.
    """
    if implementation not in IMPLEMENTATIONS:
        hint = nearest(implementation, IMPLEMENTATIONS)
        raise ValueError(f"attention implementation {implementation!r} is unknown; {hint}")
    if implementation == "auto":
        implementation = _choose(q, k)
    elif implementation in _KERNELS:
        reason = _KERNELS[implementation].refusal(target(), q)
        if reason:
            raise ValueError(f"attention implementation {implementation!r} {reason}; use 'auto'")
    if k.shape[2] != q.shape[2]:
        k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    if implementation == "cudnn":
        return cudnn.cudnn_attention(q, k, v, mask, causal)
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    if implementation == "splash":
        return splash.splash_attention(q, k, v, mask, causal=causal)
    if implementation == "chunked" and q.shape[1] > chunk:
        chunks = -(-q.shape[1] // chunk)
        return chunked_attention(q, k, v, mask, -(-q.shape[1] // chunks), causal)
    return _attend(q, k, v, mask, causal)


def _choose(q: Array, k: Array) -> str:
    device, (l, m) = target(), (q.shape[1], k.shape[1])
    # splash pads both lengths to its smallest block: short ones would be mostly padding
    if not splash.refusal(device, q) and min(l, m) >= splash.LANES:
        chosen, reason = "splash", ""
    elif not (reason := cudnn.refusal(device, q)):
        chosen = "cudnn"
    else:
        chosen = "chunked" if l > CHUNK else "xla"
    if device.kind != "cpu":
        _say(f"attention on {device}: {chosen}", device.capability and reason)
    return chosen


@functools.cache
def _say(choice: str, reason: str | None) -> None:
    """Prints a choice to stderr, once; in a pod on one host."""
    if jax.process_index() == 0:
        more = f", as cudnn {reason}" if reason else ""
        print(f"{choice}{more}", file=sys.stderr, flush=True)


def _attend(q: Array, k: Array, v: Array, mask: Array | None, causal: bool) -> Array:
    logits = jnp.einsum("blnd,bmnd->bnlm", q, k, preferred_element_type=jnp.float32)
    visible = None if mask is None else mask[:, None, None, :]
    if causal:
        ahead = jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool))[None, None]
        visible = ahead if visible is None else visible & ahead
    if visible is None:
        weights = jax.nn.softmax(logits, axis=-1)
    else:
        weights = jax.nn.softmax(jnp.where(visible, logits, jnp.finfo(logits.dtype).min), axis=-1)
        weights = jnp.where(visible, weights, 0.0)  # a query without any visible key gives zeros
    return jnp.einsum("bnlm,bmnd->blnd", weights.astype(v.dtype), v)
