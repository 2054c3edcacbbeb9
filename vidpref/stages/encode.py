"""The encode stage: video files into latents, in resumable chunks; processes share the rows."""

import concurrent.futures
import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import decided
from vidpref.coordination.stalls import watched_steps
from vidpref.coordination.time_spent import keep
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.records import write_records
from vidpref.datasets.repeated_frames import RepeatedFrames
from vidpref.datasets.video import ClipError, decode_clip, shown_ratio
from vidpref.digests import digest_files
from vidpref.files import whole_file, write_table, write_text
from vidpref.generation.autoencoder import Decoder
from vidpref.generation.first_frames import FirstFrames
from vidpref.pixels import to_unit
from vidpref.stages.row_files import RowFiles, ranges
from vidpref.storage import mirror
from vidpref.storage.copies import bring_named
from vidpref.training.metrics import Progress
from vidpref.training.processes import Share, share_of
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
) -> dict[str, int]:
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
            mended: their files of the same clips are taken over.

    Returns:
        The number of records of each file.

    Raises:
        TooManyBadClips: of clips that cannot be decoded; `folder/bad_clips.csv` names all.
    """
    buckets = _buckets(folder, clips, data)
    rows = _in_order(clips, buckets)
    files = RowFiles(folder, "latents", ".array_record", len(rows))
    share = share_of(batch_sharding(mesh), batch_size)
    encode = _encoder(encoding(autoencoder, images, mesh), params, images, share)
    decided("encode: taken over", lambda: _take_over(files, rows, earlier))
    there, written = files.there(lambda part: _holds(files.path(part), rows, part)), []
    missing = files.missing(there)
    reading = _Reading(data, missing, share, RepeatedFrames(data.fps))
    chunks = _chunks(rows, batch_size)
    todo = [chunk for chunk in chunks if missing[chunk.start : chunk.stop].any()]
    bring_named(rows[n]["path"] for n in reading.numbers(todo))
    watched = Progress(
        "encode",
        total=len(clips),
        done=len(clips) - sum(map(len, todo)),
        enabled=jax.process_index() == 0,
    )
    with (
        watched as progress,
        watched_steps("encode") as watchdog,
        concurrent.futures.ThreadPoolExecutor(_READERS) as readers,
    ):
        for chunk in todo:
            records: dict[int, dict] = {}
            bad: dict[int, ClipError] = {}
            for numbers in share.dealt(chunk):
                if missing[numbers[numbers >= 0]].any():
                    reading.encode(rows, numbers, encode, readers, records, bad)
                progress.update(int((numbers >= 0).sum()))
                if watchdog is not None:
                    watchdog.step()
            for part in ranges(n for n in sorted({*records, *bad})):
                # before the records, whose file says that the part is done
                account = _account(rows, part, records, bad)
                write_text(_beside(files.path(part)), json.dumps(account))
                write_records(files.path(part), (records[n] for n in part if n in records))
                written.append(part)
                keep()
    reading.repeated.warn()
    parts = files.complete(there, written)
    return decided("encode: clips", lambda: _finish(files, parts, clips, data))


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
    share: Share,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns what encodes the clips that a process holds into the rows that it owns."""
    first_frames, image_params = images or (None, None)

    def encode(clips: np.ndarray) -> dict[str, np.ndarray]:
        prepared = {} if first_frames is None else first_frames.prepare(clips[:, 0])
        found = compiled(params, image_params, *share.place((clips, prepared)))
        return {name: share.read(values) for name, values in found.items()}

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


def _made_of(rows: Sequence[dict], part: range) -> dict[str, Any]:
    """What a part depends on besides the stage's causes."""
    mine = rows[part.start : part.stop]
    files = digest_files((row["id"], Path(row["path"])) for row in mine)
    return {"ids": [row["id"] for row in mine], "size": [*mine[0]["size"]], "files": files}


def _beside(path: Path) -> Path:
    """Where it says what a file was made of."""
    return path.with_suffix(".json")


def _read_account(path: Path) -> dict[str, Any]:
    """The account of a file; empty where one of both is missing."""
    beside = _beside(path)
    return json.loads(beside.read_text()) if path.exists() and beside.exists() else {}


def _holds(path: Path, rows: Sequence[dict], part: range) -> bool:
    """Whether a file was made of this, so of no clip that was mended since."""
    return _read_account(path).get("made_of") == _made_of(rows, part)


def _take_over(files: RowFiles, rows: Sequence[dict], earlier: Sequence[Path]) -> None:
    """Copies what earlier stages made of the same clips, as far as it is missing."""
    numbers = {row["id"]: number for number, row in enumerate(rows)}
    for other in (p for f in earlier for p in sorted(mirror.pull(f).glob(f"*{files.suffix}"))):
        made_of = _read_account(other).get("made_of", {})
        ids = made_of.get("ids", [])
        start = numbers.get(ids[0]) if ids else None
        if start is None or start + len(ids) > len(rows):
            continue
        part = range(start, start + len(ids))
        path = files.path(part)
        if _made_of(rows, part) != made_of or _holds(path, rows, part):
            continue
        shutil.copyfile(_beside(other), _beside(path))
        with whole_file(path) as temporary:
            shutil.copyfile(other, temporary)


def _ratio(path: str) -> float:
    try:
        return shown_ratio(path)
    except ClipError:
        return float("nan")  # decoding will say why


def _in_order(clips: pd.DataFrame, buckets: dict[str, Bucket]) -> list[dict]:
    """The clips by size, each with its id, path, prompt and size; those of a size as they were."""
    rows = clips[["id", "path", "prompt"]].to_dict("records")
    sized = [row | {"size": buckets[row["prompt"]]} for row in rows]
    return sorted(sized, key=lambda row: row["size"])


def _chunks(rows: Sequence[dict], batch_size: int) -> Iterator[range]:
    """Rows of one size each: what is encoded between two saves."""
    start = 0
    for _, same in itertools.groupby(rows, key=lambda row: row["size"]):
        stop = start + len(list(same))
        for first in range(start, stop, _BATCHES * batch_size):
            yield range(first, min(first + _BATCHES * batch_size, stop))
        start = stop


@dataclasses.dataclass(frozen=True)
class _Reading:
    """How clips are read, and which.

    Attributes:
        data: the config's section.
        missing: rows that are to be encoded.
        share: which rows of a batch this process has.
        repeated: counts clips of which frames are repeated.
    """

    data: ConfigDict
    missing: np.ndarray
    share: Share
    repeated: RepeatedFrames

    def numbers(self, chunks: Iterable[range]) -> Iterator[int]:
        """The rows that this process reads."""
        for numbers in itertools.chain.from_iterable(map(self.share.dealt, chunks)):
            yield from (n for n in numbers[self.share.held].tolist() if self._reads(n))

    def encode(
        self,
        rows: Sequence[dict],
        numbers: np.ndarray,
        encode: Callable[[np.ndarray], dict[str, np.ndarray]],
        readers: concurrent.futures.Executor,
        records: dict[int, dict],
        bad: dict[int, ClipError],
    ) -> None:
        """Encodes a batch; adds what this process owns of it to `records`, or to `bad`.

        Args:
            rows: all rows.
            numbers: the row at each place of the batch, -1 for none.
            encode: see `_encoder`.
            readers: threads that read.
            records: record of each row.
            bad: what is wrong with a row that cannot be read.
        """
        held = numbers[self.share.held].tolist()
        read = list(readers.map(lambda n: self._read(rows[n], n), held))
        height, width = rows[numbers.max()]["size"]
        empty = np.zeros((self.data.frames, height, width, 3), np.uint8)
        found = encode(np.stack([x if isinstance(x, np.ndarray) else empty for x in read]))
        seen = dict(zip(held, read, strict=True))
        for i, n in enumerate(numbers[self.share.owned].tolist()):
            if isinstance(seen[n], ClipError):
                bad[n] = seen[n]
            elif seen[n] is not None:
                known = {"clip_id": rows[n]["id"], "prompt": rows[n]["prompt"]}
                records[n] = known | {name: values[i] for name, values in found.items()}

    def _reads(self, number: int) -> bool:
        return number >= 0 and bool(self.missing[number])

    def _read(self, row: dict, number: int) -> np.ndarray | ClipError | None:
        """The frames of a clip, or what is wrong with it; None where nobody asks for them."""
        if not self._reads(number):
            return None
        height, width = row["size"]
        try:
            return decode_clip(
                row["path"],
                frames=self.data.frames,
                height=height,
                width=width,
                fps=self.data.fps or None,
                short=self.data.short,
                repeated=self.repeated,
            )
        except ClipError as error:
            return error


def _account(
    rows: Sequence[dict], part: range, records: Mapping[int, dict], bad: Mapping[int, ClipError]
) -> dict[str, Any]:
    """What a file holds, what it was made of, and which of its clips could not be read."""
    faults = BadClips()
    for number in part:
        if number in bad:
            faults.add(bad[number])
    made_of = _made_of(rows, part)
    ids = [records[number]["clip_id"] for number in part if number in records]
    return {"ids": ids, "size": made_of["size"], "bad": faults.rows, "made_of": made_of}


def _finish(
    files: RowFiles, parts: Sequence[range], clips: pd.DataFrame, data: ConfigDict
) -> dict[str, int]:
    """Counts the bad clips of all processes, and says which record is which clip."""
    files.remove_others(parts)
    dataclasses.replace(files, suffix=".json").remove_others(parts)
    bad, rows, counts, folder = BadClips(), [], {}, files.folder
    for path in map(files.path, parts):
        account = _read_account(path)
        for row in account["bad"]:
            bad.note(*row)
        counts[path.name] = len(account["ids"])
        size, first = account["size"], len(rows)
        rows += [(name, path.name, first + i, *size) for i, name in enumerate(account["ids"])]
    bad.write(folder / "bad_clips.csv")
    bad.check(len(clips), data.max_bad_fraction, folder / "bad_clips.csv")
    index = pd.DataFrame(rows, columns=["id", "file", "record", "height", "width"])
    write_table(folder / "clips.parquet", index)
    return counts
