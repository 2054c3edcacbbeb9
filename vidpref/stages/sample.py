"""The sample stage: clips of a policy for many scenes, in resumable chunks."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from vidpref.datasets.records import RecordFile, write_records
from vidpref.datasets.text import TextCache
from vidpref.stages.data import Scene
from vidpref.training.metrics import Progress
from vidpref.training.sharding import batch_sharding
from vidpref.typing import Array, PyTree

Row = tuple[Scene, int]  # a clip to draw: its scene and its number


@runtime_checkable
class DrawsClips(Protocol):
    """A stage of a cascade: a `Generator`, guided or not."""

    def sample(self, params: PyTree, keys: Array, batch: dict) -> Array:
        """Draws one clip [t, h, w, c] in [-1, 1] a row."""
        ...


class Sampler:
    """Draws clips for (scene, number) rows, padded to one compiled batch shape.

    The noise of a clip depends on the seed, the scene and the clip's number alone, so two policies
    sampled with one seed can be compared clip by clip.

    Args:
        cascade: the base generator, then any super-resolution generator, whose low-resolution
            input is the clip before it.
        texts: cached embeddings of every prompt.
        batch_size: clips in one call, over all devices.
        mesh: devices; clips are divided over its data and fsdp axes.
    """

    def __init__(
        self, cascade: Sequence[DrawsClips], texts: TextCache, *, batch_size: int, mesh: Mesh
    ):
        self.batch_size = batch_size
        self._texts = texts
        self._sharding = batch_sharding(mesh)
        self._draw = [jax.jit(_draw(g), out_shardings=self._sharding) for g in cascade]

    def __call__(
        self, params: Sequence[PyTree], rows: Sequence[Row], seed: int
    ) -> tuple[list[Row], list[np.ndarray]]:
        """Returns this process's rows and, for each stage of the cascade, their uint8 clips."""
        local = _my_rows(rows, self.batch_size)
        keys, batch = _place((_keys(local, seed), _conditions(local, self._texts)), self._sharding)
        videos = []
        for draw, stage_params in zip(self._draw, params, strict=True):
            videos.append(draw(stage_params, keys, batch))
            batch = {"text": batch["text"], "text_mask": batch["text_mask"]}
            batch["low_res"] = videos[-1]
        mine = _my_rows(rows, self.batch_size, padded=False)
        return mine, [_local_rows(video)[: len(mine)] for video in videos]


def chunked(scenes: Sequence[Scene], per_scene: int, batch_size: int) -> list[list[Row]]:
    """Returns the rows of `per_scene` clips a scene, in chunks of `batch_size`."""
    rows = [(scene, i) for scene in scenes for i in range(per_scene)]
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]


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
    todo = [i for i, path in enumerate(paths) if not path.exists()]
    done = sum(len(chunk) for i, chunk in enumerate(chunks) if i not in todo)
    with Progress(
        name, total=sum(map(len, chunks)), done=done, enabled=jax.process_index() == 0
    ) as progress:
        for i in todo:
            rows, videos = sampler(params, chunks[i], seed)
            write_records(paths[i], _records(rows, videos))
            progress.update(len(chunks[i]))


def read_clips(folder: Path) -> RecordFile:
    """Opens the clips of a finished sample stage."""
    return RecordFile(sorted(folder.glob("clips-*.array_record")))


def _draw(generator: DrawsClips):
    def draw(params: PyTree, keys: Array, batch: dict) -> Array:
        clips = generator.sample(params, jax.random.wrap_key_data(keys), batch)
        return jnp.round((clips + 1.0) * 127.5).astype(jnp.uint8)

    return draw


def _my_rows(chunk: Sequence[Row], batch_size: int, padded: bool = True) -> list[Row]:
    """This process's share of a chunk; the last chunk is padded to keep one compiled shape."""
    chunk = list(chunk)
    full = chunk + [chunk[-1]] * (batch_size - len(chunk))
    share = batch_size // jax.process_count()
    start = share * jax.process_index()
    return full[start : start + share] if padded else chunk[start : start + share]


def _keys(rows: Sequence[Row], seed: int) -> np.ndarray:
    names = np.array([zlib.crc32(scene.id.encode()) for scene, _ in rows], np.uint32)
    samples = np.array([i for _, i in rows], np.uint32)

    def key(name: Array, sample: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), name), sample)

    return np.asarray(jax.random.key_data(jax.vmap(key)(names, samples)))


def _conditions(rows: Sequence[Row], texts: TextCache) -> dict[str, np.ndarray]:
    embedded = [texts[scene.text] for scene, _ in rows]
    return {
        "text": np.stack([text for text, _ in embedded]),
        "text_mask": np.stack([mask for _, mask in embedded]),
        "first_frame": np.stack([scene.first_frame for scene, _ in rows]),
    }


def _place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def _local_rows(array: Array) -> np.ndarray:
    shards = [s for s in array.addressable_shards if s.replica_id == 0]
    shards.sort(key=lambda s: s.index[0].start or 0)
    return np.concatenate([np.asarray(s.data) for s in shards])


def _records(rows: Sequence[Row], videos: Sequence[np.ndarray]) -> Iterator[dict]:
    for row, (scene, i) in enumerate(rows):
        record = {
            "clip_id": f"{scene.id}/{i}",
            "scene_id": scene.id,
            "prompt": scene.text,
            "category": scene.category,
            "split": scene.split,
            "sample": i,
            "first_frame": scene.first_frame,
            "video": videos[0][row],
        }
        if len(videos) > 1:
            record["video_high"] = videos[-1][row]
        yield record
