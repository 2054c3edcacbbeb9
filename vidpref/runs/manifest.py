"""What lies in a finished stage: its files with their sizes and rows, as `done.json` names them.

Whoever reads a stage looks there for its files, and not into the folder: a file system of many
machines may show files late, and files of an attempt that was stopped may lie beside them.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Not of the result: how it came about, and what may be removed.
_BESIDE = ("settings.json", "done.json", "seconds.txt", "checkpoints")
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
    while missing := [name for name in rows if not (folder / name).exists()]:
        if time.monotonic() > end:
            raise IncompleteStage(
                f"{folder} lacks {_few(missing)}, which another host wrote: give --workdir a "
                "folder of a file system that all hosts share"
            )
        time.sleep(0.2)
    found: Manifest = {}
    for root, folders, files in os.walk(folder):
        inside = Path(root).relative_to(folder)
        folders[:] = sorted(name for name in folders if _counts(inside / name))
        for name in sorted(name for name in files if _counts(inside / name)):
            path = (inside / name).as_posix()
            found[path] = {"size": (folder / path).stat().st_size}
            if path in rows:
                found[path]["rows"] = rows[path]
    return found


def check_files(folder: Path, manifest: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a finished stage whose files are not those that it wrote.

    Args:
        folder: the stage's folder.
        manifest: from `list_files`.

    Raises:
        IncompleteStage: names the files and what to do.
    """
    missing = [name for name in manifest if not (folder / name).is_file()]
    if missing:
        raise IncompleteStage(f"{folder} is finished and lacks {_few(missing)}. {_remedy(folder)}")
    for name, known in manifest.items():
        if (size := (folder / name).stat().st_size) != known["size"]:
            raise IncompleteStage(
                f"{folder / name} has {size} bytes, and {known['size']} when its stage was "
                f"finished. {_remedy(folder)}"
            )


def _remedy(folder: Path) -> str:
    return f"Put it back, or delete {folder.name} and run the command again to make it anew."


def _counts(path: Path) -> bool:
    return path.parts[0] not in _BESIDE + _LOGGED and not path.name.startswith(".")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
