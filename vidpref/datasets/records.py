"""Files of records: dicts of arrays, text and numbers in array_record, written whole or not."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from vidpref.files import whole_file

# One record a group, as random access wants it; zstd:1 halves clips at the speed of no compression.
_OPTIONS = "group_size:1,zstd:1"
_HEADER = np.dtype("<u4")  # length of the JSON header in bytes

Record = dict[str, Any]


class BrokenRecords(ValueError):
    """A record file is missing, truncated or corrupt; the message names it."""


def write_records(path: str | os.PathLike, records: Iterable[Mapping[str, Any]]) -> int:
    """Writes a file of records so that a reader sees all of them or no file.

    A kill leaves at most a hidden temporary file beside `path`.

    Args:
        path: the file; replaced if it exists.
        records: dicts of numpy arrays, str, int, float or bool; may be empty.

    Returns:
        The number of records written.

    Raises:
        ValueError: a value of another kind, with the record's number and the field's name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with whole_file(path) as temporary:
        writer = ArrayRecordWriter(os.fspath(temporary), _OPTIONS)
        try:
            for record in records:
                try:
                    data = pack(record)
                except ValueError as error:
                    raise ValueError(f"{path}: record {count}: {error}") from None
                writer.write(data)
                count += 1
        finally:
            writer.close()
    return count


class RecordFile:
    """Random access to the records of one or several files, in the order given.

    A grain `RandomAccessDataSource`, safe to share between threads and to send to processes.
    Arrays come back read-only; copy them to write.

    Args:
        paths: a file, or files read as one.

    Raises:
        BrokenRecords: no file given, or one is missing, truncated or corrupt.
    """

    def __init__(self, paths: str | os.PathLike | Sequence[str | os.PathLike]):
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        self.paths = tuple(os.fspath(path) for path in paths)
        if not self.paths:
            raise BrokenRecords("no record file to read; was the stage before this one finished?")
        self._sources = [_open(path) for path in self.paths]
        self._starts = np.cumsum([0] + [len(source) for source in self._sources])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: SupportsIndex) -> Record:
        """Reads record `index`, checked against its checksum.

        Raises:
            IndexError: out of range.
            BrokenRecords: the record's bytes are damaged.
        """
        index = index.__index__()
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {', '.join(self.paths)}")
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        position = index - int(self._starts[number])
        try:
            return unpack(self._sources[number][position])
        except (RuntimeError, ValueError, KeyError) as error:
            raise BrokenRecords(
                f"{self.paths[number]}: record {position} is damaged ({error}). "
                "Delete the file and run the command again to write it anew."
            ) from error


def pack(record: Mapping[str, Any]) -> bytes:
    """Serialises a record: a JSON header, then the bytes of its arrays.

    Raises:
        ValueError: a field is no array, text, number or truth value.
    """
    fields, chunks = {}, []
    for name, value in record.items():
        if isinstance(value, np.generic) and value.dtype.kind in "biufU":
            value = value.item()
        if isinstance(value, str | bool | int | float):
            fields[name] = value
            continue
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            kind = getattr(value, "dtype", type(value).__name__)
            raise ValueError(
                f"field {name!r} is {kind}; records hold numpy arrays, str, int, float and bool"
            )
        array = np.asarray(value, order="C")
        # numpy spells bfloat16 and its like as void; their names are registered by ml_dtypes
        dtype = array.dtype.name if array.dtype.kind == "V" else array.dtype.str
        fields[name] = {"dtype": dtype, "shape": array.shape}
        chunks.append(array.tobytes())
    header = json.dumps(fields).encode()
    return b"".join([np.asarray(len(header), _HEADER).tobytes(), header, *chunks])


def unpack(data: bytes) -> Record:
    """Reads what `pack` wrote; arrays are read-only views of `data`."""
    size = int(np.frombuffer(data, _HEADER, 1)[0])
    start = _HEADER.itemsize + size
    record = json.loads(data[_HEADER.itemsize : start])
    for name, value in record.items():
        if isinstance(value, dict):
            dtype = np.dtype(value["dtype"])
            count = int(np.prod(value["shape"], dtype=np.int64))
            array = np.frombuffer(data, dtype, count, start) if count else np.empty(0, dtype)
            record[name] = array.reshape(value["shape"])
            start += count * dtype.itemsize
    return record


def _open(path: str) -> ArrayRecordDataSource:
    if not os.path.exists(path):
        raise BrokenRecords(f"{path}: no such file")
    try:
        return ArrayRecordDataSource(path)
    except RuntimeError as error:
        raise BrokenRecords(
            f"{path} is truncated or no array_record file ({error}). "
            "Delete it and run the command again to write it anew."
        ) from error
