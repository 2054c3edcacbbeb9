"""What lies in files, as a few digits: of data that a stage reads and the config only points to."""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vidpref.files import write_text

_ENDS = 2**15  # bytes of either end of a large file
_LISTS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".yaml"})  # read whole
_READERS = 16
_NAMED = 2  # files in a message


def digest_files(files: Iterable[tuple[str, Path]], remembered: Path | None = None) -> str:
    """Returns 12 hex digits that change when a file changes, comes or goes; not when it moves.

    Lists of clips are read whole. Of a video or other large file the size and both ends are read:
    one that is made anew differs there. What each file held is noted beside `remembered`, for
    `changed_files`.

    Args:
        files: (name, path); the name is what counts, e.g. the path relative to its data set.
        remembered: file of the digits of earlier calls, by path, size and time of change: a large
            data set is read once. It is made if its folder is there; None reads everything.
    """
    files = sorted(files)
    known = _read(remembered)
    with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda path: _digest(path, known), (path for _, path in files)))
    whole = hashlib.sha256()
    for (name, _), (_, content) in zip(files, found, strict=True):
        whole.update(f"{name}\0{content}\0".encode())
    digits = whole.hexdigest()[:12]
    if remembered is not None and remembered.parent.is_dir():
        new = {os.fspath(path): entry for (_, path), entry in zip(files, found, strict=True)}
        if not new.items() <= known.items():
            write_text(remembered, json.dumps(known | new))
        noted = _noted(digits, remembered)
        if not noted.exists():
            noted.parent.mkdir(exist_ok=True)
            held = {
                name: content[:12] for (name, _), (_, content) in zip(files, found, strict=True)
            }
            write_text(noted, json.dumps(held))
    return digits


def changed_files(before: str, now: str, remembered: Path) -> str:
    """Returns which files changed, came and went between two results of `digest_files`, in words.

    Args:
        before, now: the results.
        remembered: as it was given there; "" is returned where it noted nothing.
    """
    old, new = (_read(_noted(digits, remembered)) for digits in (before, now))
    if not old or not new:
        return ""
    parts = {
        "changed": [name for name in new if name in old and old[name] != new[name]],
        "new": [name for name in new if name not in old],
        "gone": [name for name in old if name not in new],
    }
    return ", ".join(f"{_few(names)} {what}" for what, names in parts.items() if names)


def _few(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return " and ".join(names[:_NAMED]) if rest <= 0 else f"{names[0]} and {len(names) - 1} more"


def _noted(digits: str, remembered: Path) -> Path:
    return remembered.with_suffix("") / f"{digits}.json"


def files_below(folder: Path) -> list[tuple[str, Path]]:
    """Returns (path relative to the folder, path) of every file; those with a dot in front not."""
    return [
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    ]


def _read(remembered: Path | None) -> dict[str, Any]:
    if remembered is None or not remembered.exists():
        return {}
    try:
        return json.loads(remembered.read_text())
    except ValueError:
        return {}  # cut short by a full disk: all is read again


def _digest(path: Path, known: dict[str, list[str]]) -> list[str]:
    """[size and time of change, digits of the content] of a file."""
    try:
        status = path.stat()
        state = f"{status.st_size} {status.st_mtime_ns}"
        if known.get(os.fspath(path), [""])[0] == state:
            return known[os.fspath(path)]
        found = hashlib.sha256(str(status.st_size).encode())
        with path.open("rb") as file:
            if path.suffix.lower() in _LISTS or status.st_size <= 2 * _ENDS:
                found.update(file.read())
            else:
                found.update(file.read(_ENDS))
                file.seek(-_ENDS, os.SEEK_END)
                found.update(file.read(_ENDS))
    except OSError:
        return ["", "unreadable"]  # the stage that reads it says why
    return [state, found.hexdigest()]
