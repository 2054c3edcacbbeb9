"""Where every array lies: the device mesh and the one table from logical names to mesh axes."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.core import meta
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vidpref.models.attention.target import traced_for
from vidpref.typing import PyTree

MESH_AXES = ("data", "fsdp", "context", "tensor")
BATCH_AXES = ("data", "fsdp")
_PARAM_AXES = ("fsdp", "context")

# Logical name of a parameter's dimension -> mesh axes it may take, the preferred one first. Names
# higher up choose first: the output of an attention layer ("heads", "head_dim", "out") has its
# heads on `tensor`, so its "out" takes `fsdp`. The scanned axis must stay whole: every device runs
# every layer.
#
# What takes `fsdp` takes `context` too where both divide it: clips and tokens are divided over
# `context`, and it would hold copies otherwise, such as all 14B parameters for a batch of one clip.
#
# Where a kernel would have fsdp on one dimension and tensor on another, and both are more than one
# device, the dimension of tensor takes both. Columns over fsdp next to a sum over tensor are what
# XLA's partitioner (jax 0.10.2) computes wrong for rows over (data, fsdp) where the two axes have
# one size: it changes the order of the rows for the product, and does not change it back
# (tests/training/test_fsdp_with_tensor.py). Memory and the gathering over fsdp stay the same.
RULES: dict[str, tuple[str, ...]] = {
    "layers": (),
    "kernel": (),
    "head_dim": (),
    "heads": ("tensor",),
    "vocab": ("tensor",),
    "in": ("fsdp",),
    "embed": ("fsdp",),
    "out": ("tensor", "fsdp"),
}


def make_mesh(mesh_config: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh with the axes data, fsdp, context, tensor.

    Args:
        mesh_config: size of each axis; missing axes are 1, and one may be -1 for "the rest".
        devices: default all devices of all processes. Between several slices, which only the
            data-centre network connects, lies the axis data.

    Raises:
        ValueError: an unknown axis, sizes that do not multiply to the number of devices, or a data
            axis that does not divide over the slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    unknown = sorted(set(mesh_config) - set(MESH_AXES))
    if unknown:
        raise ValueError(f"mesh.{unknown[0]}: no such axis; a mesh has {', '.join(MESH_AXES)}")
    sizes = [int(mesh_config.get(axis, 1)) for axis in MESH_AXES]
    wanted = ", ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, sizes, strict=True))
    fixed = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"mesh {wanted}: sizes are at least 1, and one of them may be -1")
    if len(devices) % fixed or (-1 not in sizes and fixed != len(devices)):
        raise ValueError(
            f"mesh {wanted} needs {'a multiple of ' if -1 in sizes else ''}{fixed} devices, and "
            f"there are {len(devices)}; change config.mesh, or set one axis to -1 for the rest"
        )
    sizes = [len(devices) // fixed if size == -1 else size for size in sizes]
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if sizes[0] % slices:
        raise ValueError(
            f"mesh.data={sizes[0]} does not divide over {slices} slices: only data lies between "
            "slices, so make it a multiple of them, or start the run on the hosts of one slice"
        )
    # an axis of the torus is split only where no whole one fits: (2, 32) on v5p's 4x4x4
    if slices == 1:
        grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        grid = mesh_utils.create_hybrid_device_mesh(
            (sizes[0] // slices, *sizes[1:]),
            (slices, 1, 1, 1),
            devices,
            allow_split_physical_axes=True,
        )
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over the data and fsdp axes, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def row_shards(mesh: Mesh) -> int:
    """Returns the number of parts that the rows of a batch are divided into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def filled_up(rows: int, mesh: Mesh) -> int:
    """Returns the least number of rows that divides over a mesh and is not below `rows`.

    For batches whose size changes no result.
    """
    shards = row_shards(mesh)
    return -(-rows // shards) * shards


@contextlib.contextmanager
def in_scope(mesh: Mesh) -> Iterator[None]:
    """Context for tracing: tells hand-written kernels the mesh and what its devices are."""
    first = mesh.devices.flat[0]
    alone = mesh.size == 1 and first.platform == jax.default_backend()
    spread = (
        contextlib.nullcontext() if alone else jax.sharding.use_abstract_mesh(mesh.abstract_mesh)
    )
    with traced_for(first), spread:
        yield


@contextlib.contextmanager
def activation_rules(mesh: Mesh) -> Iterator[None]:
    """While a step is traced: the mesh `in_scope`, and clips spread over all its batch axes.

    A row of the batch holds several clips, so there may be fewer rows than devices. A network that
    constrains the logical axis "batch" then still gives each device clips of its own, and no layer
    gathers them to shard something else. Where there are fewer clips than devices, a network that
    knows the logical axis "tokens" divides the tokens of each over `context`.
    """
    rules = (("batch", (*BATCH_AXES, "context")),) if mesh.size > 1 else ()
    if mesh.shape["context"] > 1:
        rules += (("tokens", "context"),)
    with in_scope(mesh), nn.logical_axis_rules(rules):
        yield


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def param_shardings(boxed_abstract: PyTree, mesh: Mesh) -> PyTree:
    """Returns the sharding of every parameter by `RULES`, in an unboxed tree.

    A dimension that its mesh axis does not divide stays whole (see `whole_dimensions`), and so do
    parameters without logical names.

    Args:
        boxed_abstract: Linen variables with `nn.with_logical_partitioning` boxes, e.g. of
            `jax.eval_shape(init, key)`.
        mesh: from `make_mesh`.

    Raises:
        ValueError: an unknown logical name, or two dimensions that want the same mesh axis.
    """

    def one(path: Any, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, _assign(path, leaf, mesh)[0])

    return jax.tree_util.tree_map_with_path(one, boxed_abstract, is_leaf=is_boxed)


def abstract_params(boxed_abstract: PyTree, mesh: Mesh) -> PyTree:
    """Returns unboxed `jax.ShapeDtypeStruct`s with shardings: the target of `load_params`."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        meta.unbox(boxed_abstract),
        param_shardings(boxed_abstract, mesh),
    )


def whole_dimensions(boxed_abstract: PyTree, mesh: Mesh) -> list[str]:
    """Names the dimensions that stay whole because no mesh axis of their rule divides them."""
    leaves = jax.tree_util.tree_leaves_with_path(boxed_abstract, is_leaf=is_boxed)
    return [line for path, leaf in leaves for line in _assign(path, leaf, mesh)[1]]


def shardings_like_params(tree: PyTree, params: PyTree, shardings: PyTree, mesh: Mesh) -> PyTree:
    """Returns shardings for a tree that holds copies of the parameters, such as Adam's moments.

    A leaf whose path ends in a parameter's path, and that has its shape, lies where the parameter
    lies; every other leaf (counters, masked nodes) is replicated.

    Args:
        tree: an optimizer state or another tree, abstract or not.
        params: the parameters, abstract or not.
        shardings: shardings of the parameters.
        mesh: from `make_mesh`.
    """
    flat = jax.tree_util.tree_leaves_with_path(params)
    known = {
        path: (leaf.shape, sharding)
        for (path, leaf), sharding in zip(flat, jax.tree.leaves(shardings), strict=True)
    }

    def one(path: Any, leaf: Any) -> NamedSharding:
        for start in range(len(path)):
            shape, sharding = known.get(path[start:], (None, None))
            if shape == leaf.shape:
                return sharding
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(one, tree)


def logical_names(leaf: Any) -> tuple[str | None, ...]:
    """Returns one logical name (or None) for each dimension of a boxed or plain parameter."""
    shape = meta.unbox(leaf).shape
    return tuple(leaf.names) if is_boxed(leaf) else (None,) * len(shape)


def is_boxed(leaf: Any) -> bool:
    """Whether a leaf is a Linen box with the logical names of its dimensions."""
    return isinstance(leaf, meta.Partitioned)


def _assign(path: Any, leaf: Any, mesh: Mesh) -> tuple[PartitionSpec, list[str]]:
    """The spec of one parameter, and a line for each dimension that had to stay whole."""
    names, shape = logical_names(leaf), meta.unbox(leaf).shape
    where = f"parameter {jax.tree_util.keystr(path, simple=True, separator='/')} {names} {shape}"
    if len(names) != len(shape):
        raise ValueError(
            f"{where}: {len(names)} logical names for {len(shape)} dimensions; under nn.scan give "
            'metadata_params={nn.PARTITION_NAME: "layers"}'
        )
    unknown = [name for name in names if name is not None and name not in RULES]
    if unknown:
        raise ValueError(f"{where}: no rule for {unknown[0]!r}; RULES has {', '.join(RULES)}")
    spec: list[str | tuple[str, ...] | None] = [None] * len(shape)
    whole = []
    for name, choices in RULES.items():
        for i in [i for i, own in enumerate(names) if own == name and choices]:
            free = [axis for axis in choices if axis not in spec]
            if not free:
                raise ValueError(
                    f"{where}: dimension {i} ({name!r}) wants mesh axis {' or '.join(choices)}, "
                    "which another dimension holds; give one of them another name, or None"
                )
            divides = [axis for axis in free if shape[i] % mesh.shape[axis] == 0]
            if divides:
                spec[i] = divides[0]
            else:
                sizes = " or ".join(f"{axis}={mesh.shape[axis]}" for axis in free)
                whole.append(f"{where}: dimension {i} ({name!r}) is not a multiple of {sizes}")
    axes: tuple[str, ...] = tuple(axis for axis in _PARAM_AXES if mesh.shape[axis] > 1)
    if "fsdp" not in spec or not axes:
        return PartitionSpec(*spec), whole
    i = spec.index("fsdp")
    if "tensor" in spec and mesh.shape["tensor"] > 1:
        spec[i] = None
        i, axes = spec.index("tensor"), ("tensor", *axes)
    while shape[i] % (parts := math.prod(mesh.shape[axis] for axis in axes)):
        whole.append(
            f"{where}: dimension {i} ({names[i]!r}) is not a multiple of {'*'.join(axes)}={parts}"
        )
        axes = axes[:-1]
    spec[i] = axes if len(axes) > 1 else (*axes, None)[0]
    return PartitionSpec(*spec), whole
