"""Where files lie: what is read, and work directories, in gs:// too; other files not."""

import os

from vidpref.config.schema import FIELDS
from vidpref.storage.addresses import address_of_any, foreign, is_address

# Flags that name something to read. Fields of a config do where they say where something lies.
_READ = frozenset({"videos", "prompts", "root", "pairs", "scores", "judge"})
_READ |= {"model", "lora", "prompts_file", "image", "init_noise", "step_noise"}
_FIELD = "--config."
_ASKED = "base_url"  # of a server, and no file


def address_problem(name: str, value: os.PathLike | str) -> str:
    """Returns what is wrong with a value that should be a path, "" if nothing is.

    What may be in gs:// is opened by `storage.mirror.open_folder`, of a work directory, and by
    `storage.copies.here`.

    Args:
        name: what the user calls it, such as --workdir or --config.data.path.
        value: what was given.
    """
    field = name.removeprefix(_FIELD)
    if not address_of_any(value) or (field != name and field.endswith(_ASKED)):
        return ""
    place = field in FIELDS and FIELDS[field].touches == "place"
    flag = name.lstrip("-")
    if place or flag in _READ or flag == "workdir":
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
