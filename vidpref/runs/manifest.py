"""What lies in a finished stage: its files with their sizes and rows, as `done.json` names them.

Whoever reads a stage looks there for its files, and not into the folder: a file system of many
machines may show files late, and files of an attempt that was stopped may lie beside them.
"""

import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vidpref.storage import mirror

# Not of the result: how it came about, and what may be removed.
_BESIDE = ("settings.json", "done.json", "time.json", "checkpoints")
_LOGGED = ("tensorboard", "wandb", "wandb_id")  # loggers write on after the stage
_SHOWN_AFTER = 30.0  # seconds until a file that another host wrote is seen
_NAMED = 3  # files in a message

Manifest = dict[str, dict[str, int]]


class IncompleteStage(ValueError):
    """A finished stage lacks files, or has others than it wrote; the message names them."""


def list_files(folder: Path, rows: Mapping[str, int]) -> Manifest:
    """Returns {name: {"size": bytes, "rows": number}} of the files of a stage.

    Args:
        folder: the stage's folder.
        rows: number of rows of files that have some, whichever host wrote them.

    Raises:
        IncompleteStage: a file of `rows` is not there.
    """
    end = time.monotonic() + _SHOWN_AFTER
    while missing := sorted(set(rows) - set(files := mirror.files(folder))):
        if time.monotonic() > end:
            raise IncompleteStage(
                f"{folder} lacks {_few(missing)}, which another host wrote: give --workdir a "
                "folder of a file system that all hosts share"
            )
        time.sleep(0.2)
    found = {name: {"size": size} for name, size in sorted(files.items()) if _counts(name)}
    for name, number in rows.items():
        found[name]["rows"] = number
    return found


def check_files(folder: Path, manifest: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a finished stage whose files are not those that it wrote.

    Args:
        folder: the stage's folder.
        manifest: from `list_files`.

    Raises:
        IncompleteStage: names the files and what to do.
    """
    there = mirror.files(folder)
    missing = [name for name in manifest if name not in there]
    if missing:
        raise IncompleteStage(f"{folder} is finished and lacks {_few(missing)}. {_remedy(folder)}")
    for name, known in manifest.items():
        if (size := there[name]) != known["size"]:
            raise IncompleteStage(
                f"{folder / name} has {size} bytes, and {known['size']} when its stage was "
                f"finished. {_remedy(folder)}"
            )


def _remedy(folder: Path) -> str:
    return f"Put it back, or delete {folder.name} and run the command again to make it anew."


def _counts(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] not in _BESIDE + _LOGGED and not any(part.startswith(".") for part in parts)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
