"""Clips and their tokens over devices, inside a network."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from vidpref.typing import Array, Float, PyTree

_HEAD_AXIS = "tensor"


def spread_batch(tree: PyTree) -> PyTree:
    """Asks the compiler to spread the first axis of every leaf over the axes of rule "batch".

    Nothing happens outside `nn.logical_axis_rules`. It matters when the k clips of a prompt are
    packed into one batch: rows of the loaded batch may be fewer than the devices. Where the clips
    do not divide over all of these axes, the last ones are left out.
    """

    def spread(leaf: Array) -> Array:
        axes = _row_axes(leaf.shape[0])
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(axes)) if axes else leaf

    return jax.tree.map(spread, tree)


def tokens_may_be_split() -> bool:
    """Whether rule "tokens" names a mesh axis, so that layers may see tokens divided over it."""
    return _token_axis() is not None


@dataclasses.dataclass(frozen=True)
class Division:
    """Where the tokens [b, l, ...] of a batch of clips lie; see `token_division`.

    Attributes:
        length: tokens of a clip.
        rows: mesh axes over which clips are divided.
        axis: mesh axis over which the tokens of each clip are divided; None where they are whole.
        parts: size of that axis; 1 where tokens are whole.
    """

    length: int
    rows: tuple[str, ...] = ()
    axis: str | None = None
    parts: int = 1

    @property
    def missing(self) -> int:
        """Zero tokens that make the number of tokens a multiple of `parts`."""
        return -self.length % self.parts

    def split(self, x: Float[Array, "b l d"]) -> Float[Array, "b l2 d"]:
        """Fills up with zero tokens and spreads what there is."""
        if self.missing:
            x = jnp.pad(x, ((0, 0), (0, self.missing), (0, 0)))
        return self.spread(x)

    def spread(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Asks the compiler to divide clips, and the tokens of each, over their axes."""
        if self.parts == 1:
            return spread_batch(x)
        return jax.lax.with_sharding_constraint(x, PartitionSpec(self.rows or None, self.axis))

    def fill(self, table: Float[Array, "l d"], value: float = 0.0) -> Float[Array, "l2 d"]:
        """Fills up a table of all tokens, such as their positions."""
        if not self.missing:
            return table
        return jnp.pad(table, ((0, self.missing), (0, 0)), constant_values=value)


def token_division(clips: int, length: int, heads: int) -> Division:
    """Returns how the tokens of clips lie on the mesh in scope.

    The axis of rule "tokens" divides clips where there are enough of them, and otherwise the tokens
    of each clip; of clips there is less to send. Without such a rule tokens are whole.

    Args:
        clips: clips of the batch.
        length: tokens of a clip.
        heads: heads of the attention.

    Raises:
        ValueError: fewer tokens or heads than devices to divide them over.
    """
    rows, axis = _row_axes(clips), _token_axis()
    if axis is None or axis in rows:
        return Division(length, rows)
    mesh = jax.sharding.get_abstract_mesh()
    parts, tensor = mesh.shape[axis], head_axis(heads)
    own_heads = heads // mesh.shape[tensor] if tensor else heads
    for count, what in ((length, "tokens of a clip"), (own_heads, "attention heads a device")):
        if count < parts:
            raise ValueError(
                f"config.mesh.{axis}={parts} divides the tokens of each clip, as the {clips} clips "
                f"of a batch do not divide over {_sizes(mesh)}; there are only {count} {what}: "
                f"lower config.mesh.{axis}, or have more clips in a batch"
            )
    return Division(length, rows, axis, parts)


def head_axis(heads: int) -> str | None:
    """Returns the axis of the mesh in scope that divides heads; None where none does."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return _HEAD_AXIS if heads % sizes.get(_HEAD_AXIS, heads + 1) == 0 else None


def _row_axes(count: int) -> tuple[str, ...]:
    """The axes of rule "batch" that `count` rows divide over, the last ones left out first."""
    (axes,) = nn.logical_to_mesh_axes(("batch",))
    if axes is None:
        return ()
    mesh, axes = jax.sharding.get_abstract_mesh(), tuple(axes)
    while count % math.prod(mesh.shape[axis] for axis in axes):
        axes = axes[:-1]
    return axes if math.prod(mesh.shape[axis] for axis in axes) > 1 else ()


def _token_axis() -> str | None:
    (axis,) = nn.logical_to_mesh_axes(("tokens",))
    return axis


def _sizes(mesh: jax.sharding.AbstractMesh) -> str:
    (axes,) = nn.logical_to_mesh_axes(("batch",))
    return ", ".join(f"{axis}={mesh.shape[axis]}" for axis in axes)
