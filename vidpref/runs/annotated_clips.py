"""Clips for people to compare: those that a run stored, as video files, or those of folders."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.clip_lists import list_clips
from vidpref.datasets.video_writing import encode_clip
from vidpref.runs.stored_clips import ClipSet, Wanted, choose, read_rows

_AT_ONCE = 16  # clips of a prompt and noise that are in memory
_KEPT = ["path", "prompt", "source", "draw"]


def run_clips(
    sets: Sequence[ClipSet], wanted: Wanted, policies: Sequence[str], folder: Path
) -> pd.DataFrame:
    """Returns the clips of a run that are wanted: path, prompt, source (the policy) and draw.

    Args:
        sets: from `clip_sets`.
        wanted: which clips; its `policy` is empty.
        policies: of these policies; of all if empty.
        folder: where `write_run_clips` will put them. A path names the stage that drew the clip, so
            that another run of the same work directory has files of its own.

    Raises:
        ValueError: all of `choose`; a policy without clips.
    """
    rows = choose(sets, wanted)
    there = list(dict.fromkeys(rows["policy"]))
    for policy in policies:
        if policy not in there:
            raise ValueError(
                f"--policies: {policy} has no such clips; those chosen are of {', '.join(there)}"
            )
    rows = rows[rows["policy"].isin(policies or there)]
    stages = {s.policy: s.folder.name for s in sets if s.name == wanted.set}
    paths = [
        str(folder / stages[policy] / f"{str(clip_id).replace('/', '-')}.webm")
        for policy, clip_id in zip(rows["policy"], rows["clip_id"], strict=True)
    ]
    return rows.assign(path=paths, source=rows["policy"], draw=rows["clip_id"])


def write_run_clips(
    sets: Sequence[ClipSet], clips: pd.DataFrame, name: str, fps: float | int
) -> None:
    """Writes clips that are not there yet as VP9 in WebM, which every browser plays.

    Args:
        sets: from `clip_sets`.
        clips: rows of `run_clips`.
        name: of the set that they are of.
        fps: frames a second.
    """
    lacking = clips[[not os.path.isfile(path) for path in clips["path"]]]
    ids = list(dict.fromkeys(lacking["clip_id"]))
    for start in range(0, len(ids), _AT_ONCE):
        part = lacking[lacking["clip_id"].isin(ids[start : start + _AT_ONCE])]
        paths = part.set_index(["clip_id", "policy"])["path"]
        rows = read_rows(sets, part, name)
        for clip_id, row in zip(dict.fromkeys(part["clip_id"]), rows, strict=True):
            for policy, frames in row.clips.items():
                path = Path(paths[clip_id, policy])
                path.parent.mkdir(parents=True, exist_ok=True)
                encode_clip(path, frames, fps)


def folder_clips(
    places: Sequence[str], prompts: str, prompt: str, skipped: BadClips
) -> pd.DataFrame:
    """Returns the clips of folders or lists: path, prompt, source (the place) and draw (the name).

    Args:
        places, prompts, prompt: each place as `videos` of `list_clips`, with the others.
        skipped: is told of rows that cannot be used.

    Raises:
        ValueError: two places of one name, and all of `list_clips`.
    """
    names = [Path(os.path.abspath(place)).name for place in places]
    if len({os.path.abspath(place) for place in places}) < len(places):
        raise ValueError(f"--videos={','.join(places)}: a folder is named twice")
    if len(set(names)) < len(names):
        names = [os.path.abspath(place) for place in places]
    found = []
    for place, name in zip(places, names, strict=True):
        listed = list_clips(place, prompts, prompt=prompt)
        for row in listed.skipped.rows:
            skipped.note(*row)
        clips = listed.clips
        draws = [Path(clip).with_suffix("").as_posix() for clip in clips["id"]]
        found.append(clips.assign(source=name, draw=draws))
    return pd.concat(found, ignore_index=True)[_KEPT]
