"""The one way to put a file: whole or not at all, for readers and for runs that are killed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vidpref.storage.mirror import put

if TYPE_CHECKING:
    import pandas as pd


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its place once the block has ended well.

    What the block wrote reaches the disk before the name does; after an error nothing is left. In
    a folder that stands for one in a bucket, it is in the bucket when this returns.

    Args:
        path: the file; its folder must exist. A suffix that says the format is kept.
    """
    # of this process alone: containers of several machines may have the same process numbers
    temporary = path.with_name(f".{os.uname().nodename}.{os.getpid()}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        put(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 so that a reader sees all of it or nothing."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, frame: "pd.DataFrame") -> None:
    """Writes a table as Parquet so that a reader sees all of it or nothing."""
    with whole_file(path) as temporary:
        frame.to_parquet(temporary)
