"""Where files lie: what is read, and work directories, in gs:// too; other files not."""

import os

from vidpref.config.schema import FIELDS
from vidpref.storage.addresses import address_of_any, foreign, is_address

_FIELD = "--config."
_ASKED = "base_url"  # of a server, and no file


def address_problem(name: str, value: os.PathLike | str, *, read: bool = False) -> str:
    """Returns what is wrong with a value that should be a path, "" if nothing is.

    What may be in gs:// is opened by `storage.mirror.open_folder`, of a work directory, and by
    `storage.copies.here`.

    Args:
        name: what the user calls it, such as --workdir or --config.data.path.
        value: what was given.
        read: whether the flag names something to read; of fields the schema says it.
    """
    field = name.removeprefix(_FIELD)
    if not address_of_any(value) or (field != name and field.endswith(_ASKED)):
        return ""
    place = field in FIELDS and FIELDS[field].touches == "place"
    if place or read or name.lstrip("-") == "workdir":
        return f"{name}={problem}" if (problem := foreign(value)) else ""
    if is_address(value):
        return f"{name}={value}: this is written on a file system only: give a path."
    return f"{name}={value}: give a path, and no address."


def refuse_address(name: str, value: os.PathLike | str) -> None:
    """Refuses an address where a path is wanted.

    Raises:
        ValueError: it is one.
    """
    if problem := address_problem(name, value):
        raise ValueError(problem)
