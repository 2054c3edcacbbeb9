"""Where files lie: on a file system. Addresses, of buckets and of the web, are refused by name.

`Path("gs://bucket/run")` is the local folder `gs:/bucket/run`, without a word: what is given as an
address must not come to be one.
"""

import os
import re

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


def address_problem(name: str, value: os.PathLike | str) -> str:
    """Returns what is wrong with a value that should be a path, "" if it is no address.

    Args:
        name: what the user calls it, such as --workdir.
        value: what was given.
    """
    if not _ADDRESS.fullmatch(os.fspath(value)):
        return ""
    return (
        f"{name}={value}: files are read and written on a file system only, so far: give a path "
        "there; on a pod, of a file system that all hosts share (docs/pods.md)."
    )


def refuse_address(name: str, value: os.PathLike | str) -> None:
    """Refuses an address where a path is wanted.

    Raises:
        ValueError: it is one.
    """
    if problem := address_problem(name, value):
        raise ValueError(problem)
