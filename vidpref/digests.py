"""What lies in files, as a few digits: of data that a stage reads and the config only points to."""

import concurrent.futures
import hashlib
from collections.abc import Iterable
from pathlib import Path

_ENDS = 2**16  # bytes of either end of a large file
_WHOLE = 2**20  # bytes up to which all of a file is read
_READERS = 16


def digest_files(files: Iterable[tuple[str, Path]]) -> str:
    """Returns 12 hex digits that change when a file changes, comes or goes; not when it moves.

    Of a file over 1 MiB the size and both ends are read: a clip that is made anew differs there.

    Args:
        files: (name, path); the name is what counts, e.g. the path relative to its data set.
    """
    files = sorted(files)
    with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
        contents = list(readers.map(_digest, (path for _, path in files)))
    whole = hashlib.sha256()
    for (name, _), content in zip(files, contents, strict=True):
        whole.update(f"{name}\0{content}\0".encode())
    return whole.hexdigest()[:12]


def files_below(folder: Path) -> list[tuple[str, Path]]:
    """Returns (path relative to the folder, path) of every file; those with a dot in front not."""
    return [
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    ]


def _digest(path: Path) -> str:
    try:
        size = path.stat().st_size
        found = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                found.update(file.read())
            else:
                found.update(file.read(_ENDS))
                file.seek(-_ENDS, 2)
                found.update(file.read(_ENDS))
    except OSError:
        return "unreadable"  # the stage that reads it says why
    return found.hexdigest()
