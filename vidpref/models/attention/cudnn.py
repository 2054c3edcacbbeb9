"""Attention by the cuDNN kernel that JAX binds, for NVIDIA GPUs."""

import jax
import jax.numpy as jnp

from vidpref.typing import Array, Bool, Float

_WIDEST_HEAD = 128  # on every GPU that has the kernel; Hopper and later take 256


def refusal(kind: str, q: Array) -> str:
    """Says why the kernel does not take queries like `q` on devices of this kind; "" if it does."""
    if not kind.startswith("NVIDIA"):
        return f"runs on NVIDIA GPUs, the devices are of kind {kind!r}"
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"computes in bfloat16 or float16, the queries are {q.dtype}"
    d = q.shape[-1]
    if d % 8 or d > _WIDEST_HEAD:
        return f"takes heads of a multiple of 8 features up to {_WIDEST_HEAD}, these have {d}"
    return ""


def cudnn_attention(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b m n d"],
    v: Float[Array, "b m n d"],
    mask: Bool[Array, "b m"] | None,
    causal: bool = False,
) -> Float[Array, "b l n d"]:
    """softmax(q k^T / sqrt(d)) v; see `dot_product_attention`."""
    if mask is None:
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")
    if causal:
        out = jax.nn.dot_product_attention(
            q, k, v, mask=mask[:, None, None], is_causal=True, implementation="cudnn"
        )
        return jnp.where((jnp.cumsum(mask, axis=1) > 0)[..., None, None], out, 0)
    # The kernel can leave out the last keys of a row, and the order of keys does not matter: with
    # the visible ones first, no [l, m] bias is needed.
    order = jnp.argsort(~mask, axis=1, stable=True)
    visible = jnp.take_along_axis(mask, order, axis=1)[:, :, None, None]
    k, v = (
        # hidden keys are cut from the gradient, whatever the kernel writes there
        jnp.where(visible, jnp.take_along_axis(x, order[:, :, None, None], axis=1), 0)
        for x in (k, v)
    )
    count = mask.sum(axis=1).astype(jnp.int32)
    out = jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=jnp.maximum(count, 1), implementation="cudnn"
    )
    return jnp.where((count > 0)[:, None, None, None], out, 0)
