"""What lies where a downloaded file should: a pointer of git-lfs, an error page, nothing."""

import os
from pathlib import Path

_HEAD = 512  # bytes that tell what a file is
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # of PyTorch


def refuse_stand_in(path: str | os.PathLike) -> None:
    """Refuses what a download left in place of a file, or that is no file at all.

    Raises:
        ValueError: no such file, a folder, one that cannot be read, an empty file, a pointer of
            git-lfs, or a page of HTML or XML; for the name of a safetensors file, a pickle too.
            Names the file and says what to do.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: a folder, where a file is wanted")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if what := stand_in(head, path):
        raise ValueError(what)
    if path.suffix == ".safetensors" and head.startswith(_PICKLES):
        raise ValueError(
            f"{path}: a pickle of PyTorch under the name of a safetensors file; save the model "
            "with safe_serialization=True where the file is trusted"
        )


def stand_in(head: bytes, path: str | os.PathLike) -> str:
    """Returns what stands in place of a file, as a sentence; "" if it may be the file itself.

    Args:
        head: the first bytes of the file, some hundred of them or all.
        path: the file.
    """
    path = Path(path)
    if not head:
        return f"{path}: an empty file; download it again"
    if head.startswith(_POINTER):
        return (
            f"{path}: a pointer of git-lfs, not the file itself: run `git lfs pull` in "
            f"{path.parent}"
        )
    if head.lstrip().lower().startswith(_PAGES):
        return (
            f"{path}: a page of HTML or XML, such as a server sends with an error, not the file "
            "itself; download it again"
        )
    return ""
