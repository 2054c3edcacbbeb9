"""Video files and their prompts, as a user lists them to have them judged."""

import dataclasses
import os
from pathlib import Path

import pandas as pd

from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.benchmarks.reading import MALFORMED, layout_of, read_benchmark
from vidpref.datasets.benchmarks.records import read_records
from vidpref.datasets.preferences import Preferences
from vidpref.datasets.preferences.collecting import Collector
from vidpref.datasets.video_folder import VIDEO_SUFFIXES
from vidpref.storage.copies import here
from vidpref.text_files import read_text

_PATH = ("path", "video", "file")
_PROMPT = ("prompt", "caption", "text")


@dataclasses.dataclass(frozen=True)
class ClipList:
    """Clips to judge.

    Attributes:
        clips: id (the path below the root, or the whole one outside it), path, prompt, and fps (nan
            where the list does not say), a row a clip, in order.
        skipped: rows of the list that could not be used.
    """

    clips: pd.DataFrame
    skipped: BadClips


def list_clips(
    videos: str | os.PathLike,
    prompts: str | os.PathLike = "",
    *,
    prompt: str = "",
    root: str | os.PathLike | None = None,
) -> ClipList:
    """Reads which clips there are, and their prompts.

    Args:
        videos: a folder, all videos below which are taken in the order of their paths; or a list of
            clips (CSV, JSON, JSON lines, Parquet) with a path, a prompt and, if it likes, fps; or a
            file of pairs, a benchmark's or our own, all of whose clips are taken.
        prompts: of a folder, its prompts: a list of clips with paths below the folder, or a text
            file with a prompt a line, one for each video. Without it and `prompt`, the folder's
            captions.csv, if it has one.
        prompt: one prompt for all videos of a folder.
        root: folder that paths of a list are relative to; the list's own if None.

    Raises:
        ValueError: nothing at `videos`, no prompts of a folder, or not as many as videos, no clip
            that can be used, and all of `read_records` and `read_benchmark`.
    """
    videos, prompts = here(videos), here(prompts) if prompts else prompts
    if not videos.exists():
        raise ValueError(f"{videos}: no such file or folder")
    if videos.is_dir():
        return _folder(videos, prompts, prompt)
    rows = read_records(videos)
    if layout_of(rows[0][1]) or not _lists_clips(rows[0][1]):
        read = read_benchmark(videos, root=root)
        skipped = BadClips()
        for where, reason, why in read.skipped.rows:
            if reason == MALFORMED:  # a clip can be judged whose vote is missing
                skipped.note(where, reason, why)
        return ClipList(compared_clips(read.preferences), skipped)
    return _list(videos, videos.parent if root is None else here(root))


def compared_clips(preferences: Preferences) -> pd.DataFrame:
    """Returns the clips that are compared with others, or all where none is: scored ones."""
    comparisons, clips = preferences.comparisons, preferences.clips
    used = {*comparisons["clip_a"], *comparisons["clip_b"]}
    return clips[clips["id"].isin(used)].reset_index(drop=True) if used else clips


def _folder(folder: Path, prompts: str | os.PathLike, prompt: str) -> ClipList:
    captions = folder / "captions.csv"
    if not prompts and not prompt and captions.is_file():
        inside = folder / "videos"
        return _list(captions, inside if inside.is_dir() else folder)
    if not prompts and not prompt:
        raise ValueError(
            f"{folder}: a folder of videos needs prompts: a text file with one a line, a list with "
            "the columns path and prompt, or one prompt for all"
        )
    if prompts and Path(prompts).suffix.lower() in (".csv", ".json", ".jsonl", ".parquet"):
        return _list(Path(prompts), folder)
    found = [p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
    paths = sorted(path.relative_to(folder).as_posix() for path in found)
    if not paths:
        raise ValueError(f"{folder}: no video in it ({', '.join(sorted(VIDEO_SUFFIXES))})")
    texts = len(paths) * [prompt]
    if prompts:
        texts = read_text(prompts).rstrip("\n").split("\n")
        if len(texts) != len(paths):
            raise ValueError(
                f"{prompts} has {len(texts)} lines, and {folder} {len(paths)} videos: give one "
                "prompt a line for each, in the order of their paths, or a list with paths"
            )
    collector, skipped = Collector(folder), BadClips()
    for line, (path, text) in enumerate(zip(paths, texts, strict=True), start=1):
        where = f"{prompts}, line {line}" if prompts else str(folder / path)
        _add(collector, skipped, where, path, text, float("nan"))
    return _checked(collector, skipped, prompts or folder)


def _lists_clips(record: object) -> bool:
    return isinstance(record, dict) and any(name in record for name in _PATH)


def _list(path: Path, root: Path) -> ClipList:
    collector, skipped = Collector(root), BadClips()
    rows = read_records(path)
    for names in (_PATH, _PROMPT):
        if not any(isinstance(row, dict) and set(names) & set(row) for _, row in rows):
            there = ", ".join(rows[0][1]) if isinstance(rows[0][1], dict) else "no fields"
            raise ValueError(f"{path}: no column {' or '.join(names)}; it has {there}")
    for where, row in rows:
        if not isinstance(row, dict):
            skipped.note(where, MALFORMED, f"not an object but {repr(row)[:40]}")
            continue
        file, text = (_first(row, names) for names in (_PATH, _PROMPT))
        try:
            fps = float(row["fps"]) if row.get("fps") not in (None, "") else float("nan")
        except (TypeError, ValueError):
            fps = -1.0
        if fps <= 0 or fps == float("inf"):
            said = f"fps={row['fps']!r} is not a positive number"
            skipped.note(where, MALFORMED, said)
            continue
        _add(collector, skipped, where, file, text, fps)
    return _checked(collector, skipped, path)


def _first(row: dict, names: tuple[str, ...]) -> str:
    value = next((row[name] for name in names if row.get(name)), "")
    return value if isinstance(value, str) else ""


def _add(
    collector: Collector, skipped: BadClips, where: str, path: str, prompt: str, fps: float
) -> None:
    try:
        collector.clip(where, path, prompt, fps=fps)
    except ValueError as error:
        skipped.note(where, MALFORMED, str(error).removeprefix(f"{where}: "))


def _checked(collector: Collector, skipped: BadClips, where: str | os.PathLike) -> ClipList:
    clips = collector.clips()
    if clips.empty:
        (first, _, why), *_ = skipped.rows
        raise ValueError(f"{where}: no clip that can be judged; {first}: {why}")
    return ClipList(clips, skipped)
