"""Folders of videos that any program has written, and what their names say of the prompts."""

import os
import re
from pathlib import Path

import pandas as pd

from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.clip_lists import ClipList, list_clips
from vidpref.datasets.video_folder import VIDEO_SUFFIXES
from vidpref.storage.copies import here

_NUMBER = re.compile(r"-\d+$")  # of a sample, which VBench puts behind the prompt


def program_clips(
    place: str | os.PathLike,
    prompts: str | os.PathLike = "",
    *,
    named_by_prompts: bool = False,
) -> ClipList:
    """Reads which clips there are; prompts are "" where nothing says them.

    Args:
        place: a folder, all videos below which are taken in the order of their paths, with the
            prompts of its captions.csv if it has one; or a list of clips, see `list_clips`.
        prompts: prompts of a folder, see `list_clips`.
        named_by_prompts: whether a folder's files are called by their prompts, as VBench's:
            `a cat-0.mp4`, `a cat.mp4`.

    Raises:
        ValueError: as `list_clips`; no video in a folder.
    """
    path = here(place)
    if not path.is_dir() or prompts or ((path / "captions.csv").is_file() and not named_by_prompts):
        return list_clips(place, prompts)
    found = [p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
    if not found:
        raise ValueError(f"{path}: no video in it ({', '.join(sorted(VIDEO_SUFFIXES))})")
    rows = [
        {
            "id": file.relative_to(path).as_posix(),
            "path": os.path.abspath(file),
            "prompt": prompt_of(file) if named_by_prompts else "",
        }
        for file in sorted(found)
    ]
    return ClipList(pd.DataFrame(rows), BadClips())


def prompt_of(file: Path) -> str:
    """Returns the prompt that a file is called by, less the number of the sample behind it."""
    return _NUMBER.sub("", file.stem)
