"""Objects of a bucket brought into files here: whole, many at once, and only those that differ.

A file here has the time at which its object was put, which tells for every process what it is.
"""

import base64
import concurrent.futures
import contextlib
import errno
import functools
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vidpref.storage.bucket import Bucket, Object, StorageError

AT_ONCE = 16  # transfers
_SAID_FROM = 10**8  # bytes from which on it is said what is brought
_SAID_EVERY = 15.0  # seconds
_FULL = {errno.ENOSPC, errno.EDQUOT}


def cache() -> Path:
    """Returns the folder of all that stands here for something in a bucket.

    VIDPREF_CACHE, by default `vidpref` below XDG_CACHE_HOME or `~/.cache`.
    """
    own = os.environ.get("VIDPREF_CACHE")
    whole = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _resolved(os.path.expanduser(own or os.path.join(whole, "vidpref")))


def bring(
    bucket: Bucket,
    objects: Mapping[str, Object],
    folder: Path,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> None:
    """Writes objects into files of their names, as far as those are not there.

    Where it is stopped, what is there is whole, and the next call brings the rest.

    Args:
        bucket: where they lie.
        objects: by their names, as they were listed.
        folder: of the files.
        say: told how much is brought, and how far it is, where that is much.

    Raises:
        StorageError: the bucket may not be read, an object has gone since it was listed, the disk
            here has no room, or a name cannot be that of a file.
    """
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        paths = {name: _path(bucket, name, folder) for name in objects}
        there = pool.map(lambda name: is_there(paths[name], objects[name]), objects)
        new = [name for name, known in zip(objects, there, strict=True) if not known]
        total = sum(objects[name].size for name in new)
        _check_room(bucket, total, folder)
        if total >= _SAID_FROM:
            many = "1 file" if len(new) == 1 else f"{len(new)} files"
            say(f"bringing {_gigabytes(total)}, {many}, from {bucket.address} into {folder}")
        pieces: list[int] = []
        ended = threading.Event()

        def told(count: int) -> None:
            pieces.append(count)
            if ended.is_set():
                raise InterruptedError

        def fetch(name: str) -> None:
            path = paths[name]
            note(path, bucket.get_file(name, path, objects[name].size, told))

        waiting, said = {pool.submit(fetch, name) for name in new}, time.monotonic()
        try:
            while waiting:
                done, waiting = concurrent.futures.wait(
                    waiting, timeout=1.0, return_when=concurrent.futures.FIRST_EXCEPTION
                )
                for transfer in done:
                    transfer.result()
                if waiting and time.monotonic() - said > _SAID_EVERY:
                    said = time.monotonic()
                    say(f"{_gigabytes(sum(pieces))} of {_gigabytes(total)} are here")
        except OSError as error:
            if error.errno in _FULL:
                raise _no_room(bucket, total, folder) from error
            raise
        finally:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)


def is_there(path: Path, o: Object | None) -> bool:
    """Whether a file here is what lies in the bucket."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if o is None or status.st_size != o.size:
        return False
    if status.st_mtime_ns == 1000 * o.generation:
        return True
    if o.md5 != _md5(path):
        return False
    note(path, o.generation)
    return True


def note(path: Path, generation: int) -> None:
    """Says by the time of a file which object it is, for later processes too."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(path, ns=(1000 * generation, 1000 * generation))


def was_put(path: Path) -> bool:
    """Whether a file has the time of an object; one that a run just wrote here has not yet."""
    try:
        return path.stat().st_mtime_ns % 1000 == 0
    except FileNotFoundError:
        return False


def local_files(folder: Path, depth: int | None = None) -> Iterable[str]:
    """The files below a folder here, temporary ones left out; at most so many folders down."""
    for root, folders, names in os.walk(folder):
        inside = Path(root).relative_to(folder)
        if len(inside.parts) == depth:
            folders.clear()
        yield from ((inside / name).as_posix() for name in names if not name.startswith("."))


@functools.cache
def _resolved(path: str) -> Path:
    return Path(path).resolve()


def _path(bucket: Bucket, name: str, folder: Path) -> Path:
    if {"", ".", ".."}.intersection(name.split("/")):
        raise StorageError(
            f"{bucket.address}/{name}: no file can have this name: rename the object, or remove it"
        )
    return folder / name


def _check_room(bucket: Bucket, total: int, folder: Path) -> None:
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if total > shutil.disk_usage(above).free:
        raise _no_room(bucket, total, folder)


def _no_room(bucket: Bucket, total: int, folder: Path) -> StorageError:
    above = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(above).free
    return StorageError(
        f"{_gigabytes(total)} of {bucket.address} are to be brought into {folder} on "
        f"{os.uname().nodename}, whose disk has {_gigabytes(free)} free. Make room there, or set "
        "VIDPREF_CACHE to a folder of a larger disk; what is here already is not brought again."
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
