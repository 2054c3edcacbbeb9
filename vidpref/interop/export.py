"""Trained weights as the folder of a diffusers pipeline."""

import contextlib
import dataclasses
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util
from jax.experimental import multihost_utils

from vidpref.coordination.agreeing import barrier
from vidpref.interop.pipelines import TRANSFORMER, PipelineFolder
from vidpref.interop.safetensors_files import PICKLES, TensorFolder, write_tensors
from vidpref.interop.table import Source, plan
from vidpref.typing import Array, PyTree

DTYPES = ("float32", "bfloat16")
SHARD_BYTES = 5 * 10**9


def export_pipeline(
    out: Path,
    source: PipelineFolder,
    module: nn.Module,
    params: PyTree,
    *,
    dtype: str = "float32",
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a pipeline that is `source` but for the weights of its transformer.

    The folder appears when it is complete. It is independent of `source`: links are followed.
    Pickle files are left out, and hidden ones. Every process must call this, and the first one
    writes; it holds one tensor at a time.

    Args:
        out: the new folder; an empty one is replaced.
        source: the pipeline that the training started from.
        module: its transformer.
        params: parameters of `module`, boxed or not, on the devices of all processes or on the
            host.
        dtype: type of the weights, one of `DTYPES`.
        max_shard_bytes: see `write_tensors`.

    Raises:
        ValueError: `out` holds something, parameters that are not those of the transformer of
            `source`, or another type.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: weights are exported as {' or '.join(DTYPES)}")
    tensors = _tensors(source, module, params, jnp.dtype(dtype))
    with new_folder(out) as folder:
        if folder is not None:
            write_tensors(folder / TRANSFORMER, tensors, max_shard_bytes=max_shard_bytes)
            copy_rest(source.path, folder, weights=TRANSFORMER)
        else:
            # the tensors come from the devices of all processes, in the order of the files
            for tensor in tensors.values():
                np.asarray(tensor)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path | None]:
    """Yields a folder that becomes `out` at the end, or is removed after an error.

    Every process must call this; all but the first are given None, and wait at the end.

    Raises:
        ValueError: `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; choose another one")
    barrier(f"{out} is new")
    if jax.process_index() == 0:
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a call that was killed
        partial.mkdir(parents=True)
        try:
            yield partial
            partial.replace(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    else:
        yield None
    barrier(f"{out} is written")


def on_host(array: Array) -> np.ndarray:
    """Returns the whole of an array; every process must call this."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor of the state dict that is brought to the host, anew, whenever it is asked for."""

    leaf: Array
    block: int | None
    axes: tuple[int, ...]
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        own = self.leaf.shape[0 if self.block is None else 1 :]
        return tuple(own[axis] for axis in self.axes)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        part = self.leaf if self.block is None else self.leaf[self.block]
        return on_host(part.astype(self.dtype)).transpose(self.axes)


def _tensors(
    source: PipelineFolder, module: nn.Module, params: PyTree, dtype: np.dtype
) -> dict[str, _Tensor]:
    """The state dict in the order of its names; they and the shapes are those of `source`."""
    weights = TensorFolder(source.path / TRANSFORMER)
    table = source.family.transformer_table(module)
    try:
        parts = plan(weights.shapes, table, expected=params)
    except ValueError as error:
        raise ValueError(
            f"the parameters to export are not those of {source.path / TRANSFORMER}: {error}"
        ) from error
    return tensors_of(parts, params, dtype)


def tensors_of(parts: list[Source], params: PyTree, dtype: np.dtype) -> dict[str, _Tensor]:
    """Returns tensors for `write_tensors` that come to the host one by one.

    Args:
        parts: result of `plan`.
        params: boxed or not, on the devices of all processes or on the host.
        dtype: type of the tensors.
    """
    leaves = traverse_util.flatten_dict(nn.unbox(params))
    tensors = {}
    for part in parts:
        axes = tuple(int(axis) for axis in np.argsort(part.axes))
        for block, name in enumerate(part.names):
            number = block if part.stacked else None
            tensors[name] = _Tensor(leaves[part.path], number, axes, dtype)
    return dict(sorted(tensors.items()))


def copy_rest(source: Path, out: Path, *, weights: str) -> None:
    """Copies all that is not hidden, not pickle and not the weights in a folder of the source.

    Args:
        source: the folder to be copied.
        out: its copy, which there is.
        weights: folder of the source whose safetensors are left out; "." for the source itself.
    """
    pickles = []
    for folder, folders, files in os.walk(source, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(folder).relative_to(source)
        for name in sorted(files):
            suffixes = Path(name).suffixes  # an index of shards has the suffix before ".json"
            if name.startswith(".") or (str(below) == weights and ".safetensors" in suffixes):
                continue
            if set(suffixes) & set(PICKLES):
                pickles.append(str(below / name))
                continue
            (out / below).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / below / name, out / below / name)
    if pickles:
        logging.warning(
            "not copied from %s, as pickle may run any program when it is read: %s. A component "
            "that has no other weights must be saved with safe_serialization=True by hand.",
            source,
            ", ".join(pickles),
        )
