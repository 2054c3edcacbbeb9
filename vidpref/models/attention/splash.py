"""Attention by JAX's Pallas kernel for TPU v4 and later."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as pallas
from jax.sharding import AbstractMesh, PartitionSpec

from vidpref.models.attention.target import Target
from vidpref.typing import Array, Bool, Float

LANES = 128  # blocks are multiples of it
_BLOCK = 512
_BATCH_AXES = ("data", "fsdp", "context")
_HEAD_AXIS = "tensor"


def refusal(target: Target, q: Array) -> str:
    """Says why the kernel does not run on a device; "" if it does."""
    del q  # it takes all
    kind = target.kind
    if not kind.startswith("TPU") or kind in ("TPU v2", "TPU v3"):
        return f"runs on TPU v4 and later, the devices are of kind {kind!r}"
    return ""


def splash_attention(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b m n d"],
    v: Float[Array, "b m n d"],
    mask: Bool[Array, "b m"] | None,
    *,
    causal: bool = False,
    interpret: bool = False,
) -> Float[Array, "b l n d"]:
    """softmax(q k^T) v; XLA cannot partition the kernel, so each device gets its rows and heads.

    Where a mesh is in scope, rows are spread over its axes data, fsdp and context, the last ones
    left out until they divide the rows, and heads over tensor where it divides them. Within
    `jax.shard_map` over all axes the arrays are those of one device.

    Args:
        q: queries, already scaled.
        k: keys.
        v: values.
        mask: True for keys that may be seen. A row that sees none returns zeros.
        causal: whether query i sees the keys up to i only.
        interpret: run on any device, slowly.
    """
    kernel = functools.partial(_on_one_device, causal=causal, interpret=interpret)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or mesh.are_all_axes_manual:
        return kernel(q, k, v, mask)
    rows, heads = _axes(mesh, q.shape[0], q.shape[2])
    spec = PartitionSpec(rows, None, heads)
    # the kernel does not say how its outputs vary over the mesh, so that cannot be checked
    spread = jax.shard_map(
        kernel,
        in_specs=(spec, spec, spec, PartitionSpec(rows)),
        out_specs=spec,
        check_vma=False,
    )
    return spread(q, k, v, mask)


def _axes(mesh: AbstractMesh, b: int, n: int) -> tuple[tuple[str, ...], str | None]:
    rows = tuple(axis for axis in _BATCH_AXES if axis in mesh.shape)
    while b % math.prod(mesh.shape[axis] for axis in rows):
        rows = rows[:-1]
    return rows, _HEAD_AXIS if n % mesh.shape.get(_HEAD_AXIS, n + 1) == 0 else None


def _on_one_device(
    q: Array, k: Array, v: Array, mask: Array | None, *, causal: bool, interpret: bool
) -> Array:
    (b, l, n, _), m = q.shape, k.shape[1]
    block_q, block_kv = (min(_BLOCK, length + -length % LANES) for length in (l, m))
    seen = jnp.ones((b, m), bool) if mask is None else mask
    seen = jnp.pad(seen, ((0, 0), (0, -m % block_kv)))
    q = _padded_heads(q, block_q)
    k, v = (_padded_heads(x, block_kv) for x in (k, v))
    segments = None
    if mask is not None or m % block_kv:
        # a query sees the keys of its own segment
        segments = pallas.SegmentIds(
            q=jnp.ones((b, q.shape[2]), jnp.int32), kv=seen.astype(jnp.int32)
        )
    pattern = pallas.CausalMask if causal else pallas.FullMask
    kernel = pallas.make_splash_mha(
        pallas.MultiHeadMask([pattern((q.shape[2], k.shape[2]))] * n),
        block_sizes=pallas.BlockSizes(
            block_q=block_q,
            block_kv=block_kv,
            block_q_dkv=block_q,
            block_kv_dkv=block_kv,
            block_q_dq=block_q,
            block_kv_dq=block_kv,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    out = jax.vmap(kernel)(q, k, v, segments).swapaxes(1, 2)[:, :l]
    if mask is None:
        return out
    seen = jnp.cumsum(mask, axis=1) > 0 if causal else mask.any(axis=1, keepdims=True)
    return jnp.where(seen[..., None, None], out, 0)


def _padded_heads(x: Array, block: int) -> Array:
    """[b, l, n, d] to [b, n, l, d] with zeros up to a multiple of `block` tokens."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), (0, 0), (0, 0))).swapaxes(1, 2)
