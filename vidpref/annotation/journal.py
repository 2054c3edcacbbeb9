"""The journal: every answer and undo as a line of JSON, on the disk before anybody is told so.

The first line says what is asked. An answer has: at, annotator, key (of the showing), check (twin,
repeat or ""), prompt, clips and sources from left to right, answer by dimension, note, seconds. An
undo names the annotator and the key of the answer that it takes back.

Nothing in it is ever changed. A line that a kill left unfinished at its end is put into a file
beside it and named; it was not acknowledged. A line that is damaged anywhere else is refused.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidpref.annotation.task import SAID, Task, check_answer
from vidpref.files import write_text
from vidpref.json_text import parse_json

JOURNAL, TORN, LOCK = "annotations.journal", "annotations.torn", "annotations.lock"
_VERSION = 1
_HEAD = {"annotations": int, "kind": str, "dimensions": list}
_ANSWER = {
    "annotator": str,
    "key": str,
    "check": str,
    "prompt": str,
    "clips": list,
    "sources": list,
    "answer": dict,
    "note": str,
    "seconds": int | float,
}
_UNDO = {"annotator": str, "undo": str}

Entry = dict[str, Any]


class JournalInUse(OSError):
    """Another server writes this journal."""


@dataclasses.dataclass(frozen=True)
class Read:
    """What a journal holds.

    Attributes:
        kind, dimensions: of the task; see `Task`.
        entries: answers and undos, in order.
        torn: bytes at its end that are no whole line.
        whole: bytes before these.
    """

    kind: str
    dimensions: tuple[str, ...]
    entries: tuple[Entry, ...]
    torn: bytes
    whole: int


def read_journal(path: Path) -> Read:
    """Reads a journal, which a server may be writing.

    Raises:
        ValueError: no such file, no journal, of another version, or a damaged line that is not the
            last; names file and line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; nobody has answered anything there")
    data = path.read_bytes()
    *lines, tail = data.split(b"\n")
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(_value(line, path, number, values))
        except ValueError:
            if number < len(lines) or tail or number == 1:
                raise
            tail = line + b"\n"
    if not values:
        raise ValueError(f"{path}: no journal of annotations: it has no first line")
    if tail:
        with contextlib.suppress(ValueError):  # all of it but the line break
            values.append(_value(tail, path, len(values) + 1, values))
            tail = b""
    head, *entries = values
    whole = len(data) - len(tail)
    return Read(head["kind"], tuple(head["dimensions"]), tuple(entries), tail, whole)


class Journal:
    """A journal that this process alone writes; from `opened`.

    Attributes:
        entries: what it held when it was opened.
        torn: bytes of an unfinished line that were put aside.
    """

    def __init__(self, path: Path, task: Task):
        if not path.exists():
            head = {"annotations": _VERSION, "kind": task.kind, "dimensions": task.dimensions}
            write_text(path, json.dumps(head) + "\n")
        read = read_journal(path)
        _check_task(path, read, task)
        self.entries, self.torn = read.entries, read.torn
        if read.torn:
            with path.with_name(TORN).open("ab") as aside:
                aside.write(read.torn.rstrip(b"\n") + b"\n")
                os.fsync(aside.fileno())
        self._file = os.open(path, os.O_RDWR)
        os.ftruncate(self._file, read.whole)
        self._size = os.lseek(self._file, 0, os.SEEK_END)
        if os.pread(self._file, 1, self._size - 1) != b"\n":
            self._put(b"\n")

    def append(self, entry: Mapping[str, Any]) -> None:
        """Writes a line; it is on the disk when this returns.

        Raises:
            OSError: it could not be written, and nothing of it is left.
        """
        self._put(json.dumps(entry, ensure_ascii=False).encode() + b"\n")

    def _put(self, line: bytes) -> None:
        try:
            left = line
            while left:
                left = left[os.pwrite(self._file, left, self._size + len(line) - len(left)) :]
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


@contextlib.contextmanager
def opened(folder: Path, task: Task) -> Iterator[Journal]:
    """Opens the journal of a folder, or makes one, and keeps other servers out.

    Raises:
        JournalInUse: another server has it.
        ValueError: it is of another task, and all of `read_journal`.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise JournalInUse(
                f"{folder / JOURNAL} is in use by another server ({lock.read().strip()}): open its "
                "page, stop it, or give this one another --out"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename}")
        lock.flush()
        with contextlib.closing(Journal(folder / JOURNAL, task)) as journal:
            yield journal


def _value(line: bytes, path: Path, number: int, before: Sequence[Entry]) -> Entry:
    """The value of a line, which the values of those before it say how to check."""
    where = f"{path}, line {number}"
    try:
        value = parse_json(line.decode(), path, number)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error})") from error
    if not before:
        _check_head(value, where)
        return value
    fields = _UNDO if isinstance(value, dict) and "undo" in value else _ANSWER
    if not _has(value, fields):
        raise ValueError(f"{where}: neither an answer nor an undo; mend the line, or remove it")
    if fields is _ANSWER:
        try:
            check_answer(value["answer"], before[0]["kind"], before[0]["dimensions"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return value


def _check_head(value: Any, where: str) -> None:
    if not _has(value, _HEAD) or value["kind"] not in SAID:
        raise ValueError(f"{where}: no journal of annotations begins like this")
    if value["annotations"] != _VERSION:
        raise ValueError(f"{where}: of version {value['annotations']}, and this is {_VERSION}")


def _has(value: Any, fields: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), kind) for name, kind in fields.items()
    )


def _check_task(path: Path, read: Read, task: Task) -> None:
    said = {"compare": "comparisons", "grade": "grades"}
    if (read.kind, read.dimensions) != (task.kind, task.dimensions):
        raise ValueError(
            f"{path} holds {said.get(read.kind, read.kind)} in {', '.join(read.dimensions)}, and "
            f"this asks for {said[task.kind]} in {', '.join(task.dimensions)}: ask the same, or "
            "give another --out"
        )
