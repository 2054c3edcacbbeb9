"""Where files lie: on a file system; work directories in gs:// too. Other addresses are refused.

`Path("gs://bucket/run")` is the local folder `gs:/bucket/run`, without a word: what is given as an
address must not come to be one.
"""

import os
import re

from vidpref.storage.mirror import is_address

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


def address_problem(name: str, value: os.PathLike | str) -> str:
    """Returns what is wrong with a value that should be a path, "" if it is no address.

    A work directory may be in gs://: `storage.mirror.open_folder` opens either.

    Args:
        name: what the user calls it, such as --workdir.
        value: what was given.
    """
    workdir = name.lstrip("-") == "workdir"
    if not _ADDRESS.fullmatch(os.fspath(value)) or (workdir and is_address(value)):
        return ""
    return (
        f"{name}={value}: files are read and written on a file system only"
        f"{', or in gs://' if workdir else ''}: give a path there; on a pod, of a file system that "
        "all hosts share (docs/pods.md)."
    )


def refuse_address(name: str, value: os.PathLike | str) -> None:
    """Refuses an address where a path is wanted.

    Raises:
        ValueError: it is one.
    """
    if problem := address_problem(name, value):
        raise ValueError(problem)
