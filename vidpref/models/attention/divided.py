"""Attention of tokens that are divided over devices (sequence parallelism).

Every device holds some tokens of all heads. For attention to each other they are exchanged for all
tokens of some heads and back, all to all (DeepSpeed-Ulysses, Jacobs et al. 2023), so that what a
device computes is `dot_product_attention` of whole clips, with whatever kernel it has. Text and
images are whole on every device, and nothing is sent for attention to them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from vidpref.models.attention.dot_product import dot_product_attention
from vidpref.models.spread import Division, head_axis
from vidpref.typing import Array, Bool, Float


def attention_of_tokens(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b l n d"],
    v: Float[Array, "b l n d"],
    division: Division,
    *,
    groups: int = 1,
    implementation: str,
) -> Float[Array, "b l n d"]:
    """Attention of the tokens of a clip to each other, without those that `division` fills up with.

    Heads that do not divide over the devices are filled up with zeros too, which costs time.

    Args:
        q: queries.
        k: keys.
        v: values.
        division: where the tokens lie.
        groups: tokens see those of their own group, one of so many equal ones, such as a frame.
        implementation: see `dot_product_attention`.
    """

    def attend(q: Array, k: Array, v: Array) -> Array:
        b, _, *heads = q.shape
        q, k, v = (x[:, : division.length].reshape(b * groups, -1, *heads) for x in (q, k, v))
        out = dot_product_attention(q, k, v, implementation=implementation)
        return out.reshape(b, division.length, *heads)

    if division.parts == 1:
        return attend(q, k, v)

    def exchanged(q: Array, k: Array, v: Array) -> Array:
        n = q.shape[2]
        out = attend(*(_whole_tokens(x, division) for x in (q, k, v)))
        out = jnp.pad(out, ((0, 0), (0, division.missing), (0, 0), (0, 0)))
        return jax.lax.all_to_all(out, division.axis, 1, 2, tiled=True)[:, :, :n]

    return _on_devices(exchanged, (q, k, v), (True, True, True), division)


def attention_to_whole(
    q: Float[Array, "b l n d"],
    k: Float[Array, "b m n d"],
    v: Float[Array, "b m n d"],
    mask: Bool[Array, "b m"] | None,
    division: Division,
    *,
    implementation: str,
) -> Float[Array, "b l n d"]:
    """Attention of the tokens of a clip to what every device has whole, such as a text.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True for keys that may be seen.
        division: where the queries lie.
        implementation: see `dot_product_attention`.
    """

    def attend(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        return dot_product_attention(q, k, v, mask, implementation=implementation)

    if division.parts == 1:
        return attend(q, k, v, mask)
    return _on_devices(attend, (q, k, v, mask), (True, False, False, False), division)


def _whole_tokens(x: Array, division: Division) -> Array:
    """Some tokens of all heads of a device, for all tokens of some heads."""
    missing = -x.shape[2] % division.parts
    x = jnp.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0)))
    return jax.lax.all_to_all(x, division.axis, 2, 1, tiled=True)


def _on_devices(
    attend: Callable[..., Array],
    arrays: tuple[Array | None, ...],
    divided: tuple[bool, ...],
    division: Division,
) -> Array:
    """Calls `attend` on each device with its clips, tokens and heads, and without any mesh."""
    heads = head_axis(arrays[0].shape[2])

    def spec(x: Array | None, tokens: bool) -> PartitionSpec:
        axes = division.rows or None, division.axis if tokens else None, heads
        return PartitionSpec(*axes[: 2 if x is None else min(x.ndim, 3)])

    # kernels do not say how their outputs vary over the mesh, so that cannot be checked
    return jax.shard_map(
        attend,
        in_specs=tuple(spec(x, tokens) for x, tokens in zip(arrays, divided, strict=True)),
        out_specs=spec(arrays[0], True),
        check_vma=False,
    )(*arrays)
