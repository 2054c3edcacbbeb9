"""A folder of this machine that stands for one in a bucket, so that all else works with paths.

What is put whole into the folder (`files.whole_file`) is put into the bucket too, before the call
returns. What others put there is brought here when it is asked for. What lies in the bucket is what
counts: the folder is a cache, and may be deleted whenever no run uses it.
"""

import concurrent.futures
import contextlib
import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Container, Iterator
from pathlib import Path

from vidpref.storage.addresses import foreign, is_address
from vidpref.storage.bucket import Bucket, Object, StorageError
from vidpref.storage.lease import Lease, read_holder
from vidpref.storage.transfers import (
    AT_ONCE,
    bring,
    cache,
    is_there,
    local_files,
    note,
    was_put,
)

# Written and read in the bucket itself, by Orbax (checkpoints, trained parameters) and by jax.
DIRECT = frozenset({"checkpoints", "params", "adapters", "compiled"})
# Not of a run: W&B keeps its files itself, and the lease is nobody's file.
_OWN = frozenset({"wandb", "lock"})
# What tells which stages and runs there are, brought when the folder is opened.
_INDEX = ("*/settings.json", "*/done.json", "*/time.json", "digests/*.json")
_DONE = "done.json"  # written last: what lies beside it stays as it is
_RUNS = "runs"
_RUN = re.compile(rf"(?P<home>gs://.+)/{_RUNS}/(?P<name>[^/]+)")

_mirrors: dict[str, "Mirror"] = {}  # by the path of the folder here


class Mirror:
    """The folder that stands for one address; see the functions below.

    Args:
        bucket: the objects.
        folder: made if it does not exist.
    """

    def __init__(self, bucket: Bucket, folder: Path):
        self.bucket, self.folder = bucket, folder
        self.lease: Lease | None = None
        self._whole: set[str] = set()

    def open(self) -> None:
        """Brings what tells which stages and runs there are; removes stages that are gone."""
        self._whole.clear()
        here = [name for name in local_files(self.folder, depth=2) if _of_index(name)]
        objects = self.bucket.listing()  # after that: what a run puts meanwhile is in it
        bring(self.bucket, {name: o for name, o in objects.items() if _of_index(name)}, self.folder)
        tops = {name.partition("/")[0] for name in objects}
        for name in here:
            path, (top, below, _) = self.folder / name, name.partition("/")
            if name in objects or not was_put(path):
                continue
            path.unlink(missing_ok=True)
            if below and top not in tops:
                shutil.rmtree(self.folder / top, ignore_errors=True)

    def put(self, path: Path) -> None:
        if _hidden(name := self.name(path)):
            return
        if self.lease is not None:
            self.lease.check()
        note(path, self.bucket.put_file(name, path))

    def pull(self, folder: Path, *, exact: bool = False) -> None:
        below = self._below(folder)
        if below in self._whole:
            return
        objects = self._mirrored(below)
        bring(self.bucket, objects, self.folder)
        if f"{below}{_DONE}" in objects:
            self._whole.add(below)
        if exact:
            self._remove_others(folder, objects)

    def _remove_others(self, folder: Path, names: Container[str]) -> None:
        for path in [folder / inside for inside in local_files(folder)]:
            if (name := self.name(path)) not in names and _mirrored(name):
                path.unlink(missing_ok=True)
        for root, folders, _ in os.walk(folder, topdown=False):
            for inside in folders:
                with contextlib.suppress(OSError):  # it holds something
                    Path(root, inside).rmdir()

    def push(self, folder: Path) -> None:
        objects = self._mirrored(self._below(folder))
        paths = {
            self.name(path): path for path in (folder / inside for inside in local_files(folder))
        }
        new = [
            p for name, p in paths.items() if _mirrored(name) and not is_there(p, objects.get(name))
        ]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.put, new))

    def remove(self, path: Path) -> None:
        name = self.name(path)
        objects = [o for o in self.bucket.listing(name) if o == name or o.startswith(f"{name}/")]
        # one that is being removed does not look done
        for o in sorted(objects, key=lambda o: not o.endswith(f"/{_DONE}")):
            self.bucket.delete(o)
        self._whole.discard(f"{name}/")

    def files(self, folder: Path) -> dict[str, int]:
        below = self._below(folder)
        found = self.bucket.listing(below)
        return {name.removeprefix(below): o.size for name, o in found.items()}

    def name(self, path: Path) -> str:
        """The name of an object, from the path of its file here."""
        return Path(os.path.abspath(path)).relative_to(self.folder).as_posix()

    def _below(self, folder: Path) -> str:
        """What the names of all objects in a folder begin with."""
        name = self.name(folder)
        return "" if name == "." else f"{name}/"

    def _mirrored(self, below: str) -> dict[str, Object]:
        found = self.bucket.listing(below)
        return {name: o for name, o in found.items() if _mirrored(name)}


def open_folder(place: os.PathLike | str) -> Path:
    """Returns the folder here of a place: itself, or the one that stands for an address.

    That lies below VIDPREF_CACHE, by default in `vidpref` below XDG_CACHE_HOME or `~/.cache`.

    Args:
        place: a path, or gs://BUCKET/FOLDER; of the latter also gs://BUCKET/FOLDER/runs/NAME, where
            there is such a run.

    Raises:
        StorageError: gcsfs is missing, or the bucket is, or it may not be read; or the folder here
            cannot be written.
    """
    if problem := foreign(place):
        raise StorageError(problem)
    if not is_address(place):
        return Path(place)
    address = os.fspath(place).rstrip("/")
    run = _RUN.fullmatch(address)
    if run and Bucket(address).read("run.json") is not None:
        return open_folder(run["home"]) / _RUNS / run["name"]
    bucket = Bucket(address)
    digest = hashlib.sha256(bucket.address.encode()).hexdigest()[:12]
    folder = cache() / f"{bucket.address.rpartition('/')[2]}-{digest}"
    mirror = _mirrors.get(str(folder)) or Mirror(bucket, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mirror.open()
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{address} is kept in {folder} on this machine, which cannot be written "
            f"({error.strerror}): set VIDPREF_CACHE to a folder with room"
        ) from error
    _mirrors[str(folder)] = mirror
    return folder


def address(path: os.PathLike | str) -> str:
    """Returns what a path stands for: an address in a bucket, or itself."""
    mirror = _mirror(path)
    if mirror is None:
        return os.fspath(path)
    name = mirror.name(Path(path))
    return mirror.bucket.address if name == "." else f"{mirror.bucket.address}/{name}"


def mirrored(path: os.PathLike | str) -> bool:
    """Whether a path stands for an address in a bucket."""
    return _mirror(path) is not None


def put(path: Path) -> None:
    """Puts a file, which is whole, where its path stands for; on a file system it is there.

    Raises:
        StorageError: the bucket cannot be written.
        LeaseLost: another run may hold it.
    """
    if (mirror := _mirror(path)) is not None:
        mirror.put(path)


def push(folder: Path) -> None:
    """Puts the files of a folder that its bucket lacks, as far as others did not do so.

    Raises:
        StorageError, LeaseLost: see `put`.
    """
    if (mirror := _mirror(folder)) is not None:
        mirror.push(folder)


def pull(folder: Path, *, exact: bool = False) -> Path:
    """Brings the files that a bucket has in a folder here; returns the folder.

    What Orbax reads in the bucket itself is left there.

    Args:
        folder: on a file system nothing is done.
        exact: remove other files of the folder here.

    Raises:
        StorageError: the bucket cannot be read.
    """
    if (mirror := _mirror(folder)) is not None:
        mirror.pull(folder, exact=exact)
    return folder


def remove(path: Path) -> None:
    """Removes a file or a folder, as far as it is there, in the bucket first."""
    if (mirror := _mirror(path)) is not None:
        mirror.remove(path)
    if path.is_dir():
        (path / _DONE).unlink(missing_ok=True)  # one that is being removed does not look done
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def files(folder: Path) -> dict[str, int]:
    """Returns {name below the folder: bytes} of all files, of a bucket as it lists them now."""
    if (mirror := _mirror(folder)) is not None:
        return mirror.files(folder)
    found = {}
    for name in local_files(folder):
        with contextlib.suppress(FileNotFoundError):  # it was temporary
            found[name] = (folder / name).stat().st_size
    return found


@contextlib.contextmanager
def leased(folder: Path) -> Iterator[None]:
    """Holds the address that a folder stands for.

    Raises:
        LeaseHeld: another run holds it; the message names process, host and age.
        StorageError: the bucket cannot be written.
    """
    mirror = _mirror(folder)
    assert mirror is not None
    lease = Lease(mirror.bucket)
    lease.take()
    mirror.lease = lease
    try:
        yield
    finally:
        mirror.lease = None
        lease.release()


def lease_token(folder: Path) -> str:
    """Returns what the lease of an address is told from all others by; "" where nobody holds it."""
    mirror = _mirror(folder)
    assert mirror is not None
    held = mirror.bucket.read("lock")
    return "" if held is None else read_holder(held).token


def _mirror(path: os.PathLike | str) -> Mirror | None:
    if not _mirrors:
        return None
    whole = os.path.abspath(path)
    for folder, mirror in _mirrors.items():
        if whole == folder or whole.startswith(f"{folder}/"):
            return mirror
    return None


def _mirrored(name: str) -> bool:
    return not _hidden(name) and not (DIRECT | _OWN).intersection(name.split("/"))


def _hidden(name: str) -> bool:
    """Whether a file, or a folder that it is in, is not whole yet."""
    return any(part.startswith(".") for part in name.split("/"))


def _of_index(name: str) -> bool:
    """Whether an object tells which stages and runs there are; those of one level, and of runs."""
    depth = name.count("/")
    in_runs = depth == 2 and name.startswith(f"{_RUNS}/")
    known = depth == 1 and any(fnmatch.fnmatchcase(name, pattern) for pattern in _INDEX)
    return _mirrored(name) and (depth == 0 or in_runs or known)
