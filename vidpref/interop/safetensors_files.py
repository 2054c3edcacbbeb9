"""Component folders of diffusers and transformers: their safetensors files, read and written."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from vidpref.downloads import refuse_stand_in
from vidpref.files import whole_file
from vidpref.interop.json_fields import read_fields

STEMS = ("diffusion_pytorch_model", "model")  # of diffusers, of transformers
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_LENGTH = 8  # bytes that say how long the header is
_LARGEST_HEADER = 10**8  # of the safetensors library
_TYPES = {
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": jnp.dtype("bfloat16"),
    "I64": np.dtype("int64"),
    "I32": np.dtype("int32"),
    "I16": np.dtype("int16"),
    "I8": np.dtype("int8"),
    "U8": np.dtype("uint8"),
    "BOOL": np.dtype("bool"),
}
FLOATS = frozenset(_TYPES[code] for code in ("F64", "F32", "F16", "BF16"))


class TensorFolder(Mapping[str, np.ndarray]):
    """The tensors of a component folder by name, each read when it is asked for.

    The folder holds `<stem>.safetensors`, or shards with `<stem>.safetensors.index.json`; stems
    are in `STEMS`. Files of pickle are never read.

    Args:
        folder: e.g. `Wan2.1-T2V-1.3B-Diffusers/transformer`; or one safetensors file of any name.

    Attributes:
        shapes: shape of every tensor.
        dtypes: type of every tensor.

    Raises:
        ValueError: no weights, weights of pickle only, a missing or damaged file, or an index
            that does not fit its files.
    """

    def __init__(self, folder: str | os.PathLike):
        self._path = Path(folder)
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, np.dtype] = {}
        for path in _weight_files(self._path):
            with open_safetensors(path) as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    if name in self._files:
                        raise ValueError(f"{name} is in {self._files[name]} and again in {path}")
                    view = file.get_slice(name)
                    if view.get_dtype() not in _TYPES:
                        raise ValueError(
                            f"{path}: {name} has the type {view.get_dtype()}; known are "
                            f"{', '.join(_TYPES)}. Save the model unquantised."
                        )
                    self._files[name] = path
                    self.shapes[name] = tuple(view.get_shape())
                    self.dtypes[name] = _TYPES[view.get_dtype()]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.read(name, tuple(slice(None) for _ in self.shapes[name]))

    def __str__(self) -> str:
        return str(self._path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Returns a part of a tensor; only the pages of the file that hold it are read.

        Args:
            name: name of the tensor.
            index: one slice of step 1 for each dimension.
        """
        # opened anew for every read: pages of an open file stay in this process's memory
        with open_safetensors(self._files[name]) as file:
            return file.get_slice(name)[index] if index else file.get_tensor(name)


def open_safetensors(path: str | os.PathLike) -> safetensors.safe_open:
    """Returns an open safetensors file, whose tensors are numpy arrays.

    Raises:
        ValueError: see `refuse_stand_in`; a file that is cut short or damaged. Names the file.
    """
    path = Path(path)
    refuse_stand_in(path)
    try:
        return safetensors.safe_open(path, framework="np")
    except (safetensors.SafetensorError, OSError) as error:
        if missing := _cut_short(path):
            raise ValueError(f"{path} is cut short: {missing}; finish the download") from error
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error


def weights_fault(folder: str | os.PathLike) -> str:
    """Returns why a component folder has no whole weights, in words; "" if it has.

    Only the headers of the files are read.
    """
    try:
        TensorFolder(folder)
    except ValueError as error:
        return str(error)
    return ""


def write_tensors(
    folder: str | os.PathLike,
    tensors: Mapping[str, Any],
    *,
    stem: str = STEMS[0],
    max_shard_bytes: int = 5 * 10**9,
) -> list[Path]:
    """Writes tensors as `TensorFolder` and the `from_pretrained` of the originals read them.

    One tensor at a time is made contiguous, so the host holds at most one copy besides `tensors`.

    Args:
        folder: created if absent.
        tensors: arrays by name, or what has their `shape`, `dtype` and `nbytes` and becomes one by
            `np.asarray`. The order is that of the shards; in a shard, of the names.
        stem: stem of the file names, see `STEMS`.
        max_shard_bytes: more are split over several files; a larger tensor has a file of its own.

    Returns:
        The files, the index last where there is one.

    Raises:
        ValueError: the folder holds weights already, or a type that safetensors lacks.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    old = sorted(folder.glob(f"{stem}*.safetensors*"))
    if old:
        raise ValueError(f"{folder} holds weights already ({old[0].name}); choose another folder")
    shards = _shards(tensors, max_shard_bytes)
    if len(shards) == 1:
        path = folder / f"{stem}.safetensors"
        _write_file(path, tensors, shards[0])
        return [path]
    weight_map, paths = {}, []
    for number, names in enumerate(shards, start=1):
        path = folder / f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_file(path, tensors, names)
        weight_map |= dict.fromkeys(names, path.name)
        paths.append(path)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    paths.append(folder / f"{stem}.safetensors.index.json")
    paths[-1].write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return paths


def _weight_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of weights")
    single = [folder / f"{stem}.safetensors" for stem in STEMS]
    indices = [folder / f"{stem}.safetensors.index.json" for stem in STEMS]
    found = [path for path in (*single, *indices) if path.exists()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} holds {names}: keep the one that is meant")
    if not found:
        raise ValueError(_why_none(folder))
    return _indexed(found[0]) if found[0].suffix == ".json" else found


def _why_none(folder: Path) -> str:
    if (folder / "model_index.json").exists():
        parts = sorted(path.name for path in folder.iterdir() if path.is_dir())
        return f"{folder} is a whole pipeline; give one of its folders: {', '.join(parts)}"
    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return (
            f"{folder} holds its weights as pickle ({pickles[0]}), which may run any program when "
            "it is read. Convert it on a machine that trusts the file: load the model with "
            "from_pretrained and call save_pretrained(folder, safe_serialization=True)"
        )
    wanted = " or ".join(f"{stem}.safetensors[.index.json]" for stem in STEMS)
    return f"{folder} has no {wanted}; it holds {', '.join(names) or 'nothing'}"


def _indexed(index: Path) -> list[Path]:
    """The shards of an index, which must name their tensors and no others."""
    weight_map = read_fields(index).get("weight_map")
    files = weight_map.values() if isinstance(weight_map, dict) else [None]
    odd = [name for name in files if not isinstance(name, str) or Path(name).name != name]
    if odd or not files:
        raise ValueError(
            f"{index} is no index of safetensors files: its weight_map must give every tensor the "
            f"name of a file beside it{f', not {odd[0]!r}' if odd else ''}"
        )
    paths = [index.parent / name for name in sorted(set(files))]
    absent = [path.name for path in paths if not path.exists()]
    if absent:
        raise ValueError(
            f"{index}: {len(absent)} of its {len(paths)} files are missing: {', '.join(absent)}"
        )
    there = {}
    for path in paths:
        with open_safetensors(path) as file:
            there |= dict.fromkeys(file.keys(), path.name)
    wrong = sorted(name for name, _ in there.items() ^ weight_map.items())
    if wrong:
        raise ValueError(f"{index} and its files disagree about {', '.join(dict.fromkeys(wrong))}")
    return paths


def _cut_short(path: Path) -> str:
    """How much of a file is missing, by its header; "" if nothing is, or the header is damaged."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(_LENGTH), "little")
        there = path.stat().st_size
        if size > _LARGEST_HEADER:
            return ""
        text = file.read(size)
    if len(text) < size:
        return f"it ends in its header, after {there} bytes"
    try:
        header = json.loads(text)
        ends = [header[name]["data_offsets"][1] for name in header if name != "__metadata__"]
        promised = _LENGTH + size + max(ends, default=0)
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""
    return f"it has {there} bytes of {promised}" if there < promised else ""


def _shards(tensors: Mapping[str, Any], max_bytes: int) -> list[list[str]]:
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def _write_file(path: Path, tensors: Mapping[str, Any], names: Iterable[str]) -> None:
    """Writes one file; the library's own writer wants all of its tensors contiguous at once.

    Eight bytes of length, a JSON header of types, shapes and offsets, then the tensors, widest
    type first for alignment (the format's description in the safetensors README).
    """
    codes = {dtype: code for code, dtype in _TYPES.items()}
    unknown = [
        f"{name} {tensors[name].dtype}" for name in names if tensors[name].dtype not in codes
    ]
    if unknown:
        raise ValueError(f"{path}: safetensors has no such type: {', '.join(unknown)}")
    names = sorted(names, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        tensor = tensors[name]
        header[name] = {
            "dtype": codes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)
