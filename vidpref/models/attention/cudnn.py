"""Attention by the cuDNN kernel that JAX binds, for NVIDIA GPUs."""

import jax
import jax.numpy as jnp

from vidpref.models.attention.target import Target
from vidpref.typing import Array, Bool, Float

# Ampere. jax asks for no least one: what is older fails as late as when cuDNN builds the kernel.
# That 10.3 needs cuDNN 9.11, jax says itself.
_CAPABILITY = (8, 0)
_WIDEST_HEAD = 128  # on every GPU that has the kernel; Hopper and later take 256


def refusal(target: Target, q: Array) -> str:
    """Says why the kernel does not take queries like `q` on a device; "" if it does.

    The conditions are those of `check_is_flash_attention` in jax/_src/cudnn.
    """
    if target.capability is None or target.capability < _CAPABILITY:
        needed = ".".join(map(str, _CAPABILITY))
        return (
            f"runs on NVIDIA GPUs of compute capability {needed} and later, "
            f"the devices are of kind {str(target)!r}"
        )
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
    l, m = q.shape[1], k.shape[1]
    # jax refuses the gradient of an odd number of queries or keys
    q, k, v, mask = (x if x is None or x.shape[1] % 2 == 0 else _even(x) for x in (q, k, v, mask))
    if mask is None:
        seen = jnp.full(q.shape[:1], m, jnp.int32) if m % 2 else None
        return jax.nn.dot_product_attention(
            q, k, v, is_causal=causal, key_value_seq_lengths=seen, implementation="cudnn"
        )[:, :l]
    if causal:
        every = jnp.broadcast_to(mask[:, None, None], (q.shape[0], 1, q.shape[1], k.shape[1]))
        out = jax.nn.dot_product_attention(
            q, k, v, mask=every, is_causal=True, implementation="cudnn"
        )[:, :l]
        return jnp.where((jnp.cumsum(mask[:, :l], axis=1) > 0)[..., None, None], out, 0)
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
    )[:, :l]
    return jnp.where((count > 0)[:, None, None, None], out, 0)


def _even(x: Array) -> Array:
    """[b, l, ...] with one more token, of zeros or hidden."""
    return jnp.pad(x, ((0, 0), (0, 1), *[(0, 0)] * (x.ndim - 2)))
