"""The frames stage: what a reward model sees of every clip, decoded once; processes share the rows.

Records hold clip_id, prompt, `video` uint8 [t, h, w, 3] (the frames that are seen, in the size in
which they are) and `fps`, their rate.
"""

import concurrent.futures
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pandas as pd
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import decided, gathered
from vidpref.coordination.time_spent import keep
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.records import write_records
from vidpref.datasets.video import decode_frames
from vidpref.files import write_table, write_text
from vidpref.language.video_reward import RewardReader
from vidpref.stages.row_files import RowFiles, ranges
from vidpref.storage.copies import bring_named
from vidpref.training.metrics import Progress

_READERS = 8  # threads that open and decode files
_CHUNK = 64  # clips of a file: what a kill can cost, and what a process holds
_SAME_FPS = 0.05  # relative difference up to which a stated rate is the file's


def write_frames(
    folder: Path, clips: pd.DataFrame, reader: RewardReader, data: ConfigDict
) -> dict[str, int]:
    """Writes `folder/frames-*.array_record` and `folder/clips.parquet`; what is there is kept.

    The index has the columns id, prompt, file, record, frames, height, width. A clip that cannot be
    shown to the model (unreadable, of one frame, at another rate than the list says, too many
    tokens) is bad: `folder/bad_clips.csv` names it with the reason.

    Args:
        folder: the stage's folder.
        clips: columns id, path, prompt and fps (nan where nobody states it).
        reader: how clips are seen.
        data: the config's section; `max_bad_fraction` counts.

    Returns:
        The number of records of each file.

    Raises:
        TooManyBadClips: more than `max_bad_fraction` allows, in all processes alike.
    """
    rows = clips[["id", "path", "prompt", "fps"]].to_dict("records")
    files = RowFiles(folder, "frames", ".array_record", len(rows))
    there = files.there(lambda part: _beside(files.path(part)).exists())
    missing, written, error = files.missing(there), [], None
    size = min(_CHUNK, -(-len(rows) // jax.process_count()))
    chunks = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    mine = chunks[jax.process_index() :: jax.process_count()]
    bring_named(rows[n]["path"] for chunk in mine for n in chunk if missing[n])
    try:
        with (
            Progress("frames", total=sum(map(len, mine)), enabled=jax.process_index() == 0) as bar,
            concurrent.futures.ThreadPoolExecutor(_READERS) as readers,
        ):
            for chunk in mine:
                for part in ranges(n for n in chunk if missing[n]):
                    _write_part(files.path(part), rows[part.start : part.stop], reader, readers)
                    written.append(part)
                    keep()
                bar.update(len(chunk))
    except Exception as caught:  # told to all: the others would wait for this process for ever
        error = caught
    said = "" if error is None else f"{type(error).__name__}: {error}"
    failed = [text for text in gathered("frames decoded", said) if text]
    if error is not None:
        raise error
    if failed:
        raise RuntimeError(f"another process failed: {failed[0]}")
    parts = files.complete(there, written)
    return decided("frames: clips", lambda: _finish(files, parts, len(rows), data))


def _write_part(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    reader: RewardReader,
    readers: concurrent.futures.Executor,
) -> None:
    records, index, bad = [], [], []
    for row, found in zip(rows, readers.map(lambda row: _read(row, reader), rows), strict=True):
        if isinstance(found, ClipError):
            bad.append([found.path, found.reason, found.detail])
        elif isinstance(found, str):
            bad.append([row["path"], "not_for_the_model", found])
        else:
            records.append(found)
            index.append([row["id"], row["prompt"], *found["video"].shape[:3]])
    # before the records, whose file says that the part is done
    write_text(_beside(path), json.dumps({"index": index, "bad": bad}))
    write_records(path, records)


def _read(row: Mapping[str, Any], reader: RewardReader) -> dict[str, Any] | ClipError | str:
    """The record of a clip, or what is wrong with it."""
    try:
        frames, timing = decode_frames(row["path"])
        rate = timing.shown_rate
        if abs(row["fps"] - rate) > _SAME_FPS * rate:  # nan, where none is stated, is not
            return f"wrong fps: the list says {row['fps']:g}, the file {rate:.4g}"
        shown, rate = reader.shown(frames, rate)
        reader.row(shown, rate, row["prompt"])
    except ClipError as error:
        return error
    except ValueError as error:
        return str(error)
    return {"clip_id": row["id"], "prompt": row["prompt"], "video": shown, "fps": rate}


def _beside(path: Path) -> Path:
    """Where it says what a file holds, and which of its clips are bad."""
    return path.with_suffix(".json")


def _finish(
    files: RowFiles, parts: Sequence[range], total: int, data: ConfigDict
) -> dict[str, int]:
    files.remove_others(parts)
    bad, rows, counts = BadClips(), [], {}
    for path in map(files.path, parts):
        account = json.loads(_beside(path).read_text())
        for row in account["bad"]:
            bad.note(*row)
        counts[path.name], first = len(account["index"]), len(rows)
        rows += [
            (name, prompt, path.name, first + i, *size)
            for i, (name, prompt, *size) in enumerate(account["index"])
        ]
    where = files.folder / "bad_clips.csv"
    bad.write(where)
    bad.check(total, data.max_bad_fraction, where)
    columns = ["id", "prompt", "file", "record", "frames", "height", "width"]
    write_table(files.folder / "clips.parquet", pd.DataFrame(rows, columns=columns))
    return counts
