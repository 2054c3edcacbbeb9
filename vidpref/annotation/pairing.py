"""Which clips are compared with which: those of two sources of one draw, or those of one prompt."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vidpref.annotation.task import Item, clip_name
from vidpref.datasets.bad_clips import BadClips

ALONE = "no clip to compare it with"


def pairs(clips: pd.DataFrame, folder: Path, skipped: BadClips) -> tuple[Item, ...]:
    """Returns the pairs of clips of one prompt that differ in their source, and not in their draw.

    With one source, all pairs of clips of one prompt.

    Args:
        clips: path, prompt, source (a policy, or a folder) and draw (of a policy's clip, the noise;
            of a folder's, the path in it), a row a clip.
        folder: where records will lie.
        skipped: is told of clips that are in no pair.

    Raises:
        ValueError: there is no pair; says why.
    """
    several = clips["source"].nunique() > 1
    by = ["prompt", "draw"] if several else ["prompt"]
    found = []
    for _, group in clips.groupby(by, sort=False):
        rows = list(group.itertuples())
        for one, other in itertools.combinations(rows, 2):
            if not several or one.source != other.source:
                found.append(_item((one, other), folder))
    used = {name for item in found for name in item.clips}
    for row in clips.itertuples():
        if clip_name(row.path, folder) not in used:
            skipped.note(row.path, ALONE, _why_alone(row, several))
    if not found:
        raise ValueError(_no_pair(clips))
    return tuple(found)


def singles(clips: pd.DataFrame, folder: Path) -> tuple[Item, ...]:
    """Returns every clip as an item to grade; `clips` and `folder` as for `pairs`."""
    return tuple(_item((row,), folder) for row in clips.itertuples())


def _item(rows: Sequence[Any], folder: Path) -> Item:
    return Item(
        prompt=rows[0].prompt,
        clips=tuple(clip_name(row.path, folder) for row in rows),
        sources=tuple(row.source for row in rows),
    )


def _why_alone(row: Any, several: bool) -> str:
    if several:
        return f"no other source has {row.draw} of the prompt {row.prompt!r}"
    return f"the only clip of the prompt {row.prompt!r}"


def _no_pair(clips: pd.DataFrame) -> str:
    sources = list(dict.fromkeys(clips["source"]))
    if len(sources) > 1:
        return (
            f"none of the {len(clips)} clips can be paired: {', '.join(sources)} have no clip of "
            "the same name and prompt"
        )
    return (
        f"none of the {len(clips)} clips can be paired: all are of one source, and each has a "
        "prompt of its own. Give two sources, or --grade to have single clips graded"
    )
