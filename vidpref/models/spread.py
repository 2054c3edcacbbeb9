"""Clips over devices, inside a network."""

import math

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

from vidpref.typing import Array, PyTree


def spread_batch(tree: PyTree) -> PyTree:
    """Asks the compiler to spread the first axis of every leaf over the axes of rule "batch".

    Nothing happens outside `nn.logical_axis_rules`. It matters when the k clips of a prompt are
    packed into one batch: rows of the loaded batch may be fewer than the devices. Where the clips
    do not divide over all of these axes, the last ones are left out.
    """
    mesh = jax.sharding.get_abstract_mesh()
    (axes,) = nn.logical_to_mesh_axes(("batch",))

    def spread(leaf: Array) -> Array:
        chosen = tuple(axes)
        while math.prod(mesh.shape[axis] for axis in chosen) > 1:
            if leaf.shape[0] % math.prod(mesh.shape[axis] for axis in chosen) == 0:
                return jax.lax.with_sharding_constraint(leaf, PartitionSpec(chosen))
            chosen = chosen[:-1]
        return leaf

    return tree if axes is None else jax.tree.map(spread, tree)
