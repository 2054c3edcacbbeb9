"""Data and weights in a bucket: brought here once, and read from files as all others are.

gs://BUCKET/NAME lies in CACHE/objects/BUCKET/NAME, for all processes of a machine: one brings it,
and the others wait. The bucket is what counts: an object that has changed is brought again by the
next process that asks. The folder may be deleted whenever no run uses it.
"""

import contextlib
import fcntl
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from vidpref.storage.addresses import foreign, is_address
from vidpref.storage.bucket import Bucket, Object, StorageError
from vidpref.storage.transfers import bring, cache, local_files

_OBJECTS = "objects"
# What may be left out where settings are asked for.
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\..+")  # see `Bucket.get_file`

_brought: set[tuple[str, bool]] = set()  # (address, with weights) that this process asked for
_named: set[str] = set()  # the same of files by their paths


def here(place: os.PathLike | str, *, weights: bool = True) -> Path:
    """Returns where a file or folder lies that a user names: a path itself, or of gs:// its copy.

    What this process has asked for before stays as it is.

    Args:
        place: a path, where `~` is the home folder, or gs://BUCKET/NAME.
        weights: of a folder, whether large files are wanted that hold weights.

    Raises:
        StorageError: another address; a bucket that cannot be read, or without such an object or
            folder; a disk here without room.
    """
    if problem := foreign(place):
        raise StorageError(problem)
    if not is_address(place):
        return Path(place).expanduser()
    path, address = path_of(place), os.fspath(place).rstrip("/")
    if _known(address, weights):
        return path
    bucket, name = _split(address)
    with _alone(bucket):
        found, folder = _listing(bucket, name)
        if folder:
            _remove_others(path, {inside.removeprefix(f"{name}/") for inside in found})
        wanted = {n: o for n, o in found.items() if weights or not n.lower().endswith(_WEIGHTS)}
        _bring(bucket, wanted)
    _brought.add((address, weights))
    return path


def bring_named(paths: Iterable[os.PathLike | str]) -> None:
    """Brings the files among these that lie in a bucket, as far as there are such objects.

    Args:
        paths: of files, from `path_of` or below a folder from it; others are left alone.

    Raises:
        StorageError: see `here`.
    """
    root, names = _root(), {}
    for path in {os.path.normpath(path) for path in paths} - _named:
        if path.startswith(f"{root}/") and not _known(address(path), True):
            bucket, _, name = path.removeprefix(f"{root}/").partition("/")
            names.setdefault(bucket, []).append(name)
    for bucket_name, wanted in names.items():
        bucket = Bucket(f"gs://{bucket_name}")
        with _alone(bucket):
            found = bucket.listing(os.path.commonpath(wanted))
            for name in set(wanted) - set(found):
                (root / bucket_name / name).unlink(missing_ok=True)
            _bring(bucket, {name: found[name] for name in wanted if name in found})
        _named.update(f"{root}/{bucket_name}/{name}" for name in wanted)


def path_of(place: os.PathLike | str) -> Path:
    """Returns the path of a place, without looking whether something is there.

    Raises:
        StorageError: another address than gs://.
    """
    if problem := foreign(place):
        raise StorageError(problem)
    if not is_address(place):
        return Path(place).expanduser()
    bucket, name = _split(os.fspath(place).rstrip("/"))
    return _root() / bucket.bucket / name


def address(path: os.PathLike | str) -> str:
    """Returns the address of which a path is the copy, or the path."""
    root, text = f"{_root()}/", os.path.normpath(path)
    return f"gs://{text.removeprefix(root)}" if text.startswith(root) else os.fspath(path)


def is_folder(place: os.PathLike | str) -> bool:
    """Whether a place is a folder; of an address the bucket is asked, and nothing is brought.

    Raises:
        StorageError: see `here`.
    """
    if not is_address(place):
        return here(place).is_dir()
    return _listing(*_split(os.fspath(place).rstrip("/")))[1]


def _bring(bucket: Bucket, objects: dict[str, Object]) -> None:
    try:
        bring(bucket, objects, _root() / bucket.bucket)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise StorageError(
            f"{bucket.address}: {error.filename} would be a file and a folder: rename the object, "
            "or delete what is in that place on this machine"
        ) from error


def _listing(bucket: Bucket, name: str) -> tuple[dict[str, Object], bool]:
    """The objects of a file or a folder, by their whole names, and whether it is a folder."""
    below = bucket.listing(f"{name}/" if name else "")
    one = {n: o for n, o in bucket.listing(name).items() if n == name} if not below else {}
    if not below and not one:
        raise StorageError(
            f"{bucket.address}/{name}: there is no such file or folder in the bucket. "
            f"`gcloud storage ls {bucket.address}` shows what there is."
        )
    return below or one, bool(below)


def _known(address: str, weights: bool) -> bool:
    parts = address.split("/")
    above = ("/".join(parts[:end]) for end in range(3, len(parts) + 1))
    return any((a, True) in _brought or (a, weights) in _brought for a in above)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Removes files that are gone from the bucket, and what a process that was killed left."""
    for name in [name for name in local_files(folder) if name not in names]:
        (folder / name).unlink(missing_ok=True)
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(bucket: Bucket) -> Iterator[None]:
    """Lets one process of this machine bring objects of a bucket."""
    path = _root() / f"{bucket.bucket}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise StorageError(
            f"{bucket.address} is brought into {path.parent} on {os.uname().nodename}, which "
            f"cannot be written ({error.strerror}): set VIDPREF_CACHE to a folder with room"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            waits = f"waiting for another process here, which brings files from {bucket.address}"
            print(waits, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _split(address: str) -> tuple[Bucket, str]:
    """The whole bucket of an address, and the name in it."""
    below = Bucket(address)
    return Bucket(f"gs://{below.bucket}"), below.address.removeprefix(f"gs://{below.bucket}")[1:]


def _root() -> Path:
    return cache() / _OBJECTS
