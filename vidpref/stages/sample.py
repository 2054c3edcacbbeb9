"""The sample stage: clips of a policy for many scenes, in resumable chunks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from vidpref.datasets.records import RecordFile, write_records
from vidpref.generation.cascade import Row, Sampler
from vidpref.training.metrics import Progress
from vidpref.training.processes import unfinished
from vidpref.typing import PyTree


def sample_clips(
    folder: Path,
    sampler: Sampler,
    params: Sequence[PyTree],
    chunks: Sequence[list[Row]],
    *,
    seed: int,
    name: str,
) -> None:
    """Writes the clips of every chunk to `folder/clips-*.array_record`.

    Chunks found in the folder are kept. Every process of a pod writes the rows that it holds.

    Args:
        folder: the stage's folder.
        sampler: draws the clips.
        params: parameters of each stage of the cascade.
        chunks: from `chunked`.
        seed: of the noise.
        name: of the progress bar.
    """
    process = f"-p{jax.process_index()}" if jax.process_count() > 1 else ""
    paths = [folder / f"clips-{i:05d}{process}.array_record" for i in range(len(chunks))]
    todo = unfinished(paths)
    done = sum(len(chunk) for i, chunk in enumerate(chunks) if i not in todo)
    with Progress(
        name, total=sum(map(len, chunks)), done=done, enabled=jax.process_index() == 0
    ) as progress:
        for i in todo:
            rows, drawn = sampler(params, chunks[i], seed)
            write_records(paths[i], _records(rows, drawn))
            progress.update(len(chunks[i]))


def read_clips(folder: Path) -> RecordFile:
    """Opens the clips of a finished sample stage."""
    return RecordFile(sorted(folder.glob("clips-*.array_record")))


def _records(rows: Sequence[Row], drawn: Mapping[str, np.ndarray]) -> Iterator[dict]:
    for row, (scene, i) in enumerate(rows):
        record = {
            "clip_id": f"{scene.id}/{i}",
            "scene_id": scene.id,
            "prompt": scene.text,
            "category": scene.category,
            "split": scene.split,
            "sample": i,
        }
        if scene.first_frame is not None:
            record["first_frame"] = scene.first_frame
        yield record | {name: clips[row] for name, clips in drawn.items()}
