"""Checkpoints of diffusers and transformers straight onto the devices of a mesh."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from flax import traverse_util

from vidpref.interop.json_fields import read_fields
from vidpref.interop.safetensors_files import FLOATS, TensorFolder
from vidpref.interop.table import Source, Table, plan
from vidpref.typing import PyTree


@runtime_checkable
class Tensors(Protocol):
    """A checkpoint whose tensors are read in parts, as `TensorFolder`; `str` of it says where."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype]

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Returns a part of a tensor."""
        ...


def load_onto(
    target: PyTree,
    folder: str | os.PathLike | Tensors,
    table: Table,
    *,
    ignore: tuple[str, ...] = (),
    keep: Callable[[tuple[str, ...], jax.Array], PyTree] | None = None,
) -> PyTree:
    """Returns a component's parameters, read one after another onto their devices.

    A process reads only the slices that its devices hold, and the host never holds more than one
    parameter (all the blocks of a stacked one) besides what is on the devices.

    Args:
        target: `jax.ShapeDtypeStruct`s with shardings; tensors are cast to their types.
        folder: folder of the component, see `TensorFolder`, or its tensors, opened.
        table: table of the model.
        ignore: prefixes of the names of tensors that belong to something else.
        keep: `(path, parameter) -> what is kept of it`, called before the next one is read.

    Raises:
        ValueError: see `TensorFolder` and `table.to_params`; weights that are no floats.
    """
    tensors = TensorFolder(folder) if isinstance(folder, str | os.PathLike) else folder
    meant = {n: shape for n, shape in tensors.shapes.items() if not n.startswith(ignore)}
    odd = [
        f"{name} ({tensors.dtypes[name]})" for name in meant if tensors.dtypes[name] not in FLOATS
    ]
    if odd:
        raise ValueError(
            f"{tensors}: weights are no floats: {', '.join(odd[:3])}{', ...' if odd[3:] else ''}; "
            "save the model unquantised"
        )
    leaves = traverse_util.flatten_dict(target)
    try:
        sources = plan(meant, table, expected=target)
    except ValueError as error:
        raise ValueError(f"{tensors}: {error}") from error
    flat = {}
    for source in sources:
        leaf = leaves[source.path]
        read = _reader(tensors, source, leaf.dtype)
        array = jax.make_array_from_callback(source.shape, leaf.sharding, read, dtype=leaf.dtype)
        kept = array if keep is None else keep(source.path, array)
        # what was read may be dropped only once it has arrived
        flat[source.path] = jax.block_until_ready(kept)
    return traverse_util.unflatten_dict(flat)


def component_config(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns the `config.json` of a component folder.

    Raises:
        ValueError: there is none, or it is not JSON; see `read_fields`.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise ValueError(f"{folder}: no config.json; is it a component's folder?")
    return read_fields(path)


def _reader(
    tensors: Tensors, source: Source, dtype: np.dtype
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Returns what reads a part of a parameter; devices that hold the same part share it."""

    @functools.cache
    def read(*bounds: tuple[int, int]) -> np.ndarray:
        ours = bounds[1:] if source.stacked else bounds
        index = [slice(None)] * len(ours)
        for axis, part in zip(source.axes, ours, strict=True):
            index[axis] = slice(*part)
        if not source.stacked:
            whole = tensors.read(source.names[0], tuple(index))
            return np.asarray(whole.transpose(source.axes), dtype, order="C")
        out = np.empty([stop - start for start, stop in bounds], dtype)
        for row, name in enumerate(source.names[slice(*bounds[0])]):
            out[row] = tensors.read(name, tuple(index)).transpose(source.axes)
        return out

    def part(index: tuple[slice, ...]) -> np.ndarray:
        sizes = zip(index, source.shape, strict=True)
        return read(*(piece.indices(size)[:2] for piece, size in sizes))

    return part
