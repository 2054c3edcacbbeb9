"""The encode stage: video files into latents, in resumable chunks, each process its own rows."""

import concurrent.futures
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import barrier, decided
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.records import write_records
from vidpref.datasets.repeated_frames import RepeatedFrames
from vidpref.datasets.video import ClipError, decode_clip, shown_ratio
from vidpref.digests import digest_files
from vidpref.files import whole_file, write_table, write_text
from vidpref.generation.autoencoder import Decoder
from vidpref.generation.first_frames import FirstFrames
from vidpref.pixels import to_unit
from vidpref.training.metrics import Progress
from vidpref.training.processes import local_rows, my_share, place, unfinished
from vidpref.training.sharding import batch_sharding, in_scope
from vidpref.typing import Array, PyTree

_READERS = 8  # threads that open and decode files
_BATCHES = 16  # of one shape in a chunk: what a kill can cost

Bucket = tuple[int, int]


def encode_clips(
    folder: Path,
    clips: pd.DataFrame,
    autoencoder: Decoder,
    params: PyTree,
    data: ConfigDict,
    *,
    batch_size: int,
    images: tuple[FirstFrames, PyTree] | None,
    mesh: Mesh,
    earlier: Sequence[Path] = (),
) -> None:
    """Writes the latents of clips as `folder/latents-*.array_record`, and `folder/clips.parquet`.

    All clips of a prompt are scaled and cropped to one size, that of `data.buckets` whose aspect
    ratio is nearest to their median's, as the clips of a pair must have one shape. Frames are
    taken at `data.fps` from the start. Records hold clip_id, prompt, `latent` in float16
    [t, h, w, c] and, with `images`, what those return of the first frame, in float16 too. What is
    there already is kept.

    Args:
        folder: the stage's folder.
        clips: columns id, path and prompt.
        autoencoder: the network.
        params: its parameters.
        data: the config's section: frames, height, width, fps, buckets, max_bad_fraction.
        batch_size: clips at once, over all devices.
        images: encodes first frames on their own, for image-to-video; with its parameters.
        mesh: devices.
        earlier: folders of this stage with the same causes and other clips, e.g. before one was
            mended: their chunks of the same clips are taken over.

    Raises:
        TooManyBadClips: of clips that cannot be decoded; `folder/bad_clips.csv` names all.
    """
    buckets = _buckets(folder, clips, data)
    chunks = list(_chunks(clips, buckets, batch_size))
    paths = _paths(folder, len(chunks), jax.process_index())
    encode = _encoder(encoding(autoencoder, images, mesh), params, images, mesh)
    made_of = [_made_of(size, rows, batch_size) for size, rows in chunks]
    for path, causes in zip(paths, made_of, strict=True):
        if not _holds(path, causes):
            path.unlink(missing_ok=True)
            _take_over(path, causes, earlier)
    todo = unfinished(paths)
    done = sum(len(rows) for i, (_, rows) in enumerate(chunks) if i not in todo)
    repeated = RepeatedFrames(data.fps)
    watched = Progress("encode", total=len(clips), done=done, enabled=jax.process_index() == 0)
    with watched as progress, concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
        for i in todo:
            size, rows = chunks[i]
            records, bad = [], BadClips()
            for batch in _batches(rows, batch_size):
                records += _encode_batch(
                    batch, size, data, encode, readers, bad, batch_size, repeated
                )
                progress.update(len(batch))
            # before the records, whose file says that the chunk is done
            account = {"ids": [r["clip_id"] for r in records], "size": size, "bad": bad.rows}
            account["made_of"] = made_of[i]
            write_text(paths[i].with_suffix(".json"), json.dumps(account))
            write_records(paths[i], records)
    repeated.warn()
    barrier("encode")
    decided("encode: clips", lambda: _finish(folder, clips, data, len(chunks)))


def _paths(folder: Path, chunks: int, process: int) -> list[Path]:
    # The number of processes is in the names: a resumed run with another one must not mix them.
    count = jax.process_count()
    whose = f"-p{process:03d}-of-{count:03d}" if count > 1 else ""
    return [folder / f"latents-{i:05d}{whose}.array_record" for i in range(chunks)]


def encoding(
    autoencoder: Decoder, images: tuple[FirstFrames, PyTree] | None, mesh: Mesh
) -> jax.stages.Wrapped:
    """Returns the compiled program of this stage.

    It takes parameters of the autoencoder and of the image encoder, clips uint8 [b, t, h, w, 3] and
    what `FirstFrames.prepare` returns ({} without `images`), and gives arrays of b rows by name.
    """
    first_frames, _ = images or (None, None)

    def network(params: PyTree, image_params: PyTree, clips: Array, prepared: dict) -> dict:
        with in_scope(mesh):
            latent = autoencoder.encode(params, to_unit(clips))
            found = {"latent": latent}
            if first_frames is not None:
                found |= first_frames.encode(image_params, prepared, latent.shape[1])
        return {name: values.astype(jnp.float16) for name, values in found.items()}

    return jax.jit(network, out_shardings=batch_sharding(mesh))


def _encoder(
    compiled: jax.stages.Wrapped,
    params: PyTree,
    images: tuple[FirstFrames, PyTree] | None,
    mesh: Mesh,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns what encodes a process's clips of a batch into its rows."""
    first_frames, image_params = images or (None, None)
    sharding = batch_sharding(mesh)

    def encode(clips: np.ndarray) -> dict[str, np.ndarray]:
        prepared = {} if first_frames is None else first_frames.prepare(clips[:, 0])
        found = compiled(params, image_params, *place((clips, prepared), sharding))
        return {name: local_rows(values) for name, values in found.items()}

    return encode


def _buckets(folder: Path, clips: pd.DataFrame, data: ConfigDict) -> dict[str, Bucket]:
    """The size of every prompt's clips; first frames are read once, by one process, and kept."""
    sizes = [tuple(size) for size in data.buckets] or [(data.height, data.width)]
    if len(sizes) == 1:
        return dict.fromkeys(clips["prompt"], sizes[0])
    found = decided("encode: sizes", lambda: _nearest_sizes(folder / "buckets.json", clips, sizes))
    return {prompt: tuple(size) for prompt, size in found.items()}


def _nearest_sizes(
    kept: Path, clips: pd.DataFrame, sizes: Sequence[Bucket]
) -> dict[str, Sequence[int]]:
    if not kept.exists():
        with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
            ratios = pd.Series(list(readers.map(_ratio, clips["path"])), index=clips["prompt"])
        medians = ratios.groupby(level=0).median().fillna(1.0)
        found = {
            prompt: min(sizes, key=lambda s: abs(np.log(s[1] / s[0]) - np.log(ratio)))
            for prompt, ratio in medians.items()
        }
        write_text(kept, json.dumps(found))
        return found
    return json.loads(kept.read_text())


def _batches(rows: Sequence[dict], batch_size: int) -> list[Sequence[dict]]:
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def _mine(batch: Sequence[dict], batch_size: int) -> list[dict]:
    """The rows of a batch that this process reads."""
    return my_share(batch, batch_size, padded=False)


def _made_of(size: Bucket, rows: Sequence[dict], batch_size: int) -> dict[str, Any]:
    """What this process's part of a chunk depends on besides the stage's causes."""
    mine = [row for batch in _batches(rows, batch_size) for row in _mine(batch, batch_size)]
    files = digest_files((row["id"], Path(row["path"])) for row in mine)
    return {"ids": [row["id"] for row in mine], "size": [*size], "files": files}


def _holds(path: Path, made_of: dict[str, Any]) -> bool:
    """Whether a chunk is there and was made of this, so of no clip that was mended since."""
    account = path.with_suffix(".json")
    return (
        path.exists()
        and account.exists()
        and json.loads(account.read_text()).get("made_of") == made_of
    )


def _take_over(path: Path, made_of: dict[str, Any], earlier: Sequence[Path]) -> None:
    """Puts a chunk that an earlier stage made of the same clips in its place, if there is one."""
    for other in (other for folder in earlier for other in sorted(folder.glob(f"*{path.suffix}"))):
        if _holds(other, made_of):
            shutil.copyfile(other.with_suffix(".json"), path.with_suffix(".json"))
            with whole_file(path) as temporary:
                shutil.copyfile(other, temporary)
            return


def _ratio(path: str) -> float:
    try:
        return shown_ratio(path)
    except ClipError:
        return float("nan")  # decoding will say why


def _chunks(
    clips: pd.DataFrame, buckets: dict[str, Bucket], batch_size: int
) -> Iterator[tuple[Bucket, list[dict]]]:
    rows = clips[["id", "path", "prompt"]].to_dict("records")
    for size in sorted(set(buckets.values())):
        same = [row for row in rows if buckets[row["prompt"]] == size]
        for start in range(0, len(same), _BATCHES * batch_size):
            yield size, same[start : start + _BATCHES * batch_size]


def _encode_batch(
    batch: Sequence[dict],
    size: Bucket,
    data: ConfigDict,
    encode: Callable[[np.ndarray], dict[str, np.ndarray]],
    readers: concurrent.futures.Executor,
    bad: BadClips,
    batch_size: int,
    repeated: RepeatedFrames,
) -> list[dict]:
    """Records of this process's rows of a batch; a row that cannot be read is noted as bad."""
    height, width = size
    empty = np.zeros((data.frames, height, width, 3), np.uint8)

    def read(row: dict) -> np.ndarray | ClipError:
        try:
            return decode_clip(
                row["path"],
                frames=data.frames,
                height=height,
                width=width,
                fps=data.fps or None,
                short=data.short,
                repeated=repeated,
            )
        except ClipError as error:
            return error

    mine = _mine(batch, batch_size)
    read_rows = list(readers.map(read, mine))
    for row in read_rows:
        if isinstance(row, ClipError):
            bad.add(row)
    padding = [empty] * (len(my_share(batch, batch_size)) - len(mine))
    pixels = [empty if isinstance(row, ClipError) else row for row in read_rows] + padding
    found = encode(np.stack(pixels))
    return [
        {"clip_id": row["id"], "prompt": row["prompt"]}
        | {name: values[i] for name, values in found.items()}
        for i, row in enumerate(mine)
        if not isinstance(read_rows[i], ClipError)
    ]


def _finish(folder: Path, clips: pd.DataFrame, data: ConfigDict, chunks: int) -> None:
    """Counts the bad clips of all processes, and says which record is which clip."""
    ours = {p for process in range(jax.process_count()) for p in _paths(folder, chunks, process)}
    for path in {*folder.glob("latents-*.array_record")} - ours:
        path.unlink()  # of an earlier attempt by another number of processes
    bad, rows = BadClips(), []
    for path in sorted(path.with_suffix(".json") for path in ours):
        account = json.loads(path.read_text())
        for row in account["bad"]:
            bad.note(*row)
        rows += [(name, len(rows) + i, *account["size"]) for i, name in enumerate(account["ids"])]
    bad.write(folder / "bad_clips.csv")
    bad.check(len(clips), data.max_bad_fraction, folder / "bad_clips.csv")
    index = pd.DataFrame(rows, columns=["id", "record", "height", "width"])
    write_table(folder / "clips.parquet", index)
