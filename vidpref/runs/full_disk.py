"""A disk without space: whose folder lies there, and what to do."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from vidpref.coordination.store import HostsError
from vidpref.storage.mirror import mirrored

_FULL = {errno.ENOSPC, errno.EDQUOT}
_WORDS = ("No space left on device", "Disk quota exceeded")  # of libraries that write by themselves


class DiskFull(OSError):
    """There was no space to write what a stage made."""


@contextlib.contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Turns an error of whatever writes in `folder` into `DiskFull`, if that is why.

    Args:
        folder: of the stage.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DiskFull | HostsError) or not _is_of_a_full_disk(error):
            raise
        larger = ", or set VIDPREF_CACHE to a folder of a larger disk" if mirrored(folder) else ""
        raise DiskFull(
            f"{folder}: no space is left on its disk, of {_size(folder)}. Make room there, such as "
            f"with launch/tpu_run.py --prune{larger}, and give the same command again: it goes on "
            "from what is saved."
        ) from error


def _is_of_a_full_disk(error: Exception) -> bool:
    known = isinstance(error, OSError) and error.errno in _FULL
    return known or any(words in str(error) for words in _WORDS)


def _size(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).total / 1e9:.3g} GB"
    except OSError:
        return "unknown size"
