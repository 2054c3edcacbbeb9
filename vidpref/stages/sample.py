"""The sample stage: clips of a policy for many scenes, in resumable chunks, found by their ids."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import jax
import numpy as np
import pandas as pd

from vidpref.coordination.agreeing import barrier, decided
from vidpref.datasets.records import BrokenRecords, Record, RecordFile, write_records
from vidpref.datasets.scenes import Scene
from vidpref.files import write_table, write_text
from vidpref.generation.cascade import Row, Sampler
from vidpref.training.metrics import Progress
from vidpref.training.processes import my_share, unfinished
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
) -> None:
    """Writes the clips of every chunk as `folder/clips-*.array_record`, and `folder/clips.parquet`.

    The latter says of every clip, in the order of `chunks`, which record of which file it is.
    Chunks found in the folder are kept. Every process of a pod writes the rows that it holds.

    Args:
        folder: the stage's folder.
        sampler: what draws the clips.
        params: parameters of each stage of the cascade.
        chunks: clips to draw, from `chunked`.
        seed: seed of the noise.
        name: name of the progress bar.
    """
    paths = _paths(folder, len(chunks), jax.process_index())
    for path, chunk in zip(paths, chunks, strict=True):
        mine = [clip_id(*row) for row in my_share(chunk, sampler.batch_size, padded=False)]
        if not _holds(path, mine):  # as a run with another batch size left it
            path.unlink(missing_ok=True)
    todo = unfinished(paths)
    done = sum(len(chunk) for i, chunk in enumerate(chunks) if i not in todo)
    with Progress(
        name, total=sum(map(len, chunks)), done=done, enabled=jax.process_index() == 0
    ) as progress:
        for i in todo:
            rows, drawn = sampler(params, chunks[i], seed)
            # before the records, whose file says that the chunk is done
            write_text(_account(paths[i]), json.dumps([clip_id(*row) for row in rows]))
            write_records(paths[i], _records(rows, drawn))
            progress.update(len(chunks[i]))
    barrier(f"{name}: clips")
    decided(f"{name}: index", lambda: _write_index(folder, chunks))


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
    return f"{scene.id}/{sample}"


def seen_clip(clips: Mapping[str, Any]) -> UInt8[Array, "..."]:
    """Returns what is judged and shown of a clip: of a cascade, the last resolution.

    Args:
        clips: a record, or what a `Sampler` drew, by the names of the cascade's stages.
    """
    return clips["video_high"] if "video_high" in clips else clips["video"]


def _paths(folder: Path, chunks: int, process: int) -> list[Path]:
    # The number of processes is in the names: a resumed run with another one must not mix them.
    count = jax.process_count()
    whose = f"-p{process:03d}-of-{count:03d}" if count > 1 else ""
    return [folder / f"clips-{i:05d}{whose}.array_record" for i in range(chunks)]


def _holds(path: Path, ids: list[str]) -> bool:
    """Whether a file that is there has these clips."""
    return _account(path).exists() and json.loads(_account(path).read_text()) == ids


def _account(path: Path) -> Path:
    """Where the ids of a file's clips stand."""
    return path.with_suffix(".json")


def _write_index(folder: Path, chunks: Sequence[list[Row]]) -> None:
    """Says which record of which file is which clip, of all processes."""
    ours = [p for i in range(jax.process_count()) for p in _paths(folder, len(chunks), i)]
    for path in {*folder.glob("clips-*.array_record")} - {*ours}:
        path.unlink()  # of an earlier attempt by another number of processes
        _account(path).unlink(missing_ok=True)
    places = {
        name: {"file": path.name, "record": record}
        for path in ours
        for record, name in enumerate(json.loads(_account(path).read_text()))
    }
    rows = [_fields(*row) | places[clip_id(*row)] for chunk in chunks for row in chunk]
    write_table(folder / INDEX, pd.DataFrame(rows))


def _fields(scene: Scene, sample: int) -> dict[str, str | int]:
    return {
        "clip_id": clip_id(scene, sample),
        "scene_id": scene.id,
        "prompt": scene.text,
        "category": scene.category,
        "split": scene.split,
        "sample": sample,
    }


def _records(rows: Sequence[Row], drawn: Mapping[str, np.ndarray]) -> Iterator[dict]:
    for row, (scene, i) in enumerate(rows):
        record = _fields(scene, i)
        if scene.first_frame is not None:
            record["first_frame"] = scene.first_frame
        yield record | {name: clips[row] for name, clips in drawn.items()}
