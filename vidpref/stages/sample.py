"""The sample stage: clips of a policy for many scenes, in resumable chunks, found by their ids."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import jax
import numpy as np
import pandas as pd

from vidpref.coordination.agreeing import decided
from vidpref.coordination.stalls import watched_steps
from vidpref.coordination.time_spent import keep
from vidpref.datasets.records import BrokenRecords, Record, RecordFile, write_records
from vidpref.datasets.scenes import Scene
from vidpref.files import write_table
from vidpref.generation.cascade import Row, Sampler
from vidpref.stages.row_files import RowFiles, ranges
from vidpref.training.metrics import Progress
from vidpref.typing import Array, Int, PyTree, UInt8

INDEX = "clips.parquet"
# What a record and a row of the index say of a clip.
FIELDS = ("clip_id", "scene_id", "prompt", "category", "split", "sample")


def sample_clips(
    folder: Path,
    sampler: Sampler,
    params: Sequence[PyTree],
    chunks: Sequence[list[Row]],
    *,
    seed: int,
    name: str,
) -> dict[str, int]:
    """Writes the clips of every chunk as `folder/clips-*.array_record`, and `folder/clips.parquet`.

    The latter says of every clip, in the order of `chunks`, which record of which file it is.
    Clips found in the folder are kept. Every process of a pod writes the rows that it owns.

    Args:
        folder: the stage's folder.
        sampler: what draws the clips.
        params: parameters of each stage of the cascade.
        chunks: clips to draw, from `chunked`.
        seed: seed of the noise.
        name: name of the progress bar.

    Returns:
        The number of records of each file.
    """
    files = RowFiles(folder, "clips", ".array_record", sum(map(len, chunks)))
    there, written = files.there(), []
    missing = files.missing(there)
    starts = np.cumsum([0, *map(len, chunks)]).tolist()
    todo = [i for i, start in enumerate(starts[:-1]) if missing[start : starts[i + 1]].any()]
    done = files.total - sum(len(chunks[i]) for i in todo)
    watched = Progress(name, total=files.total, done=done, enabled=jax.process_index() == 0)
    with watched as progress, watched_steps(name) as watchdog:
        for i in todo:
            numbers = {clip_id(*row): starts[i] + j for j, row in enumerate(chunks[i])}
            rows, drawn = sampler(params, chunks[i], seed)
            records = {numbers[clip_id(*row)]: (row, j) for j, row in enumerate(rows)}
            # whole chunks are drawn, so that a clip has its place in the batch however often it is
            for part in ranges(n for n in sorted(records) if missing[n]):
                write_records(files.path(part), (_record(*records[n], drawn) for n in part))
                written.append(part)
                keep()
            progress.update(len(chunks[i]))
            if watchdog is not None:
                watchdog.step()
    parts = files.complete(there, written)
    decided(f"{name}: index", lambda: _write_index(files, parts, chunks))
    return {files.path(part).name: len(part) for part in parts}


class SampledClips:
    """The records of a finished sample stage: number i is row i of its index.

    Args:
        folder: the stage's folder.

    Attributes:
        index: a row a clip with the columns `FIELDS`, in the order in which clips were asked for.

    Raises:
        BrokenRecords: the folder has no index, or a file of its is missing or damaged.
    """

    def __init__(self, folder: Path):
        if not (folder / INDEX).exists():
            raise BrokenRecords(
                f"{folder} has no {INDEX}, so its sample stage is unfinished or of another version "
                "of vidpref: delete the folder and run the command again to draw the clips anew"
            )
        index = pd.read_parquet(folder / INDEX)
        counts = index.groupby("file", sort=False).size()
        self._records = RecordFile([folder / file for file in counts.index])
        if len(self._records) != len(index):
            raise BrokenRecords(
                f"{folder}: {len(self._records)} records, but {INDEX} has {len(index)}. Delete the "
                "folder and run the command again to draw the clips anew."
            )
        starts = dict(zip(counts.index, counts.cumsum() - counts, strict=True))
        self._places = (index["file"].map(starts) + index["record"]).to_numpy()
        self._numbers = pd.Series(np.arange(len(index)), index=index["clip_id"])
        self.index = index[list(FIELDS)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: SupportsIndex) -> Record:
        return self._records[self._places[number]]

    def numbers(self, clip_ids: Iterable[str]) -> Int[np.ndarray, " n"]:
        """Returns the number of every clip.

        Raises:
            KeyError: the stage drew no such clip.
        """
        return self._numbers.loc[list(clip_ids)].to_numpy()

    def clip(self, clip_id: str) -> Record:
        """Returns the record of a clip.

        Raises:
            KeyError: the stage drew no such clip.
        """
        return self[self._numbers.loc[clip_id]]


def read_clips(folder: Path) -> SampledClips:
    """Opens the clips of a finished sample stage."""
    return SampledClips(folder)


def clip_id(scene: Scene, sample: int) -> str:
    """Returns the id of the clip with number `sample` of a scene."""
    return clip_id_of(scene.id, sample)


def clip_id_of(scene_id: str, sample: int) -> str:
    """Returns the same of a scene of which the id is known."""
    return f"{scene_id}/{sample}"


def seen_clip(clips: Mapping[str, Any]) -> UInt8[Array, "..."]:
    """Returns what is judged and shown of a clip: of a cascade, the last resolution.

    Args:
        clips: a record, or what a `Sampler` drew, by the names of the cascade's stages.
    """
    return clips["video_high"] if "video_high" in clips else clips["video"]


def _write_index(files: RowFiles, parts: Sequence[range], chunks: Sequence[list[Row]]) -> None:
    """Says which record of which file is which clip."""
    files.remove_others(parts)
    places = [(files.path(part).name, i) for part in parts for i in range(len(part))]
    rows = [row for chunk in chunks for row in chunk]
    index = [
        _fields(*row) | {"file": file, "record": record}
        for row, (file, record) in zip(rows, places, strict=True)
    ]
    write_table(files.folder / INDEX, pd.DataFrame(index))


def _fields(scene: Scene, sample: int) -> dict[str, str | int]:
    return {
        "clip_id": clip_id(scene, sample),
        "scene_id": scene.id,
        "prompt": scene.text,
        "category": scene.category,
        "split": scene.split,
        "sample": sample,
    }


def _record(row: Row, number: int, drawn: Mapping[str, np.ndarray]) -> dict[str, Any]:
    record = _fields(*row)
    if row[0].first_frame is not None:
        record["first_frame"] = row[0].first_frame
    return record | {name: clips[number] for name, clips in drawn.items()}
