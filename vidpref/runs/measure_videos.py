"""Measures of the clips of one program; processes share them, and a kill costs little."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from vidpref.coordination.agreeing import gathered
from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.video import decode_frames
from vidpref.storage.copies import bring_named
from vidpref.training.metrics import Progress
from vidpref.video_metrics.measure import Clip, Measure
from vidpref.video_metrics.value_store import ValueStore

_READERS = 8  # threads that open and decode files
SHAPE = "shape"


class Shape:
    """What a clip is like: frames, height, width, and frames a second."""

    name, of_prompt, causes = SHAPE, False, {}

    def why_not(self, clip: Clip) -> str:
        """Takes every clip."""
        return ""

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the four numbers of each clip."""
        return [np.array([*clip.frames.shape[:3], clip.fps]) for clip in clips]


@dataclasses.dataclass(frozen=True)
class MeasuredClips:
    """The clips of a program, with what was measured of them.

    Attributes:
        name: of the program.
        clips: columns id, path, prompt.
        failures: measure -> number of a clip -> why it has no values.
    """

    name: str
    clips: pd.DataFrame
    failures: Mapping[str, Mapping[int, str]]
    _stores: Mapping[str, ValueStore]
    _keys: Mapping[str, Sequence[str]]

    def values(self, measure: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (number of a clip, its values) for each clip that has some, in order."""
        for number, key in enumerate(self._keys[measure]):
            if number not in self.failures[measure]:
                yield number, self._stores[measure].get(key)


def measure_clips(
    name: str,
    clips: pd.DataFrame,
    measures: Mapping[str, Measure],
    cache: Path,
    batch_size: int,
) -> MeasuredClips:
    """Measures clips as far as that was not done before, in files of any size and length.

    Args:
        name: of the program that has made them.
        clips: columns id, path, prompt.
        measures: by name.
        cache: folder of values that are known, and where new ones are kept.
        batch_size: clips that are decoded at once.
    """
    measures = {SHAPE: Shape(), **measures}
    stores = {measure: ValueStore(cache, m) for measure, m in measures.items()}
    count = jax.process_count()
    ends = [len(clips) * i // count for i in range(count + 1)]
    mine = range(ends[jax.process_index()], ends[jax.process_index() + 1])
    rows = clips.to_dict("records")
    bring_named(rows[number]["path"] for number in mine)
    done: list[list[Any]] = []
    with (
        Progress(name, total=len(mine), enabled=jax.process_index() == 0) as progress,
        ThreadPoolExecutor(_READERS) as readers,
    ):
        for start in range(mine.start, mine.stop, batch_size):
            numbers = range(start, min(start + batch_size, mine.stop))
            part = [rows[number] for number in numbers]
            done += _measure_part(part, measures, stores, readers)
            progress.update(len(part))
    done = [row for part in gathered(f"measures of {name}", done) for row in part]
    keys: dict[str, list[str]] = {measure: [] for measure in measures}
    failures: dict[str, dict[int, str]] = {measure: {} for measure in measures}
    for number, (content, whys) in enumerate(done):
        for measure, why in whys.items():
            failures[measure][number] = why
        for measure, store in stores.items():
            keys[measure].append(store.key(content, rows[number]["prompt"]))
    return MeasuredClips(name, clips, failures, stores, keys)


def _measure_part(
    rows: Sequence[Mapping[str, Any]],
    measures: Mapping[str, Measure],
    stores: Mapping[str, ValueStore],
    readers: ThreadPoolExecutor,
) -> list[list[Any]]:
    """[digest of the file, measure -> why there are no values] of each clip."""
    read = list(readers.map(lambda row: _read(row, stores), rows))
    whys: list[dict[str, str]] = [{} for _ in rows]
    for number, (_, _, clip) in enumerate(read):
        if isinstance(clip, str):
            whys[number] = dict.fromkeys(measures, clip)
    for name, measure in measures.items():
        wanted: dict[int, Clip] = {}
        for number, (_, missing, clip) in enumerate(read):
            if not isinstance(clip, Clip) or name not in missing:
                continue
            if why := measure.why_not(clip):
                whys[number][name] = why
            else:
                wanted[number] = clip
        for number, values in _values(measure, wanted).items():
            if isinstance(values, str):
                whys[number][name] = values
            else:
                stores[name].put(stores[name].key(read[number][0], rows[number]["prompt"]), values)
    return [[content, why] for (content, _, _), why in zip(read, whys, strict=True)]


def _read(
    row: Mapping[str, Any], stores: Mapping[str, ValueStore]
) -> tuple[str, list[str], Clip | str | None]:
    """A file's digest, the measures whose values are not known, and the clip; words if unusable."""
    path = Path(row["path"])
    try:
        if not path.exists():
            raise ClipError(path, "missing")
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        missing = [
            n for n, store in stores.items() if store.key(content, row["prompt"]) not in store
        ]
        if not missing:
            return content, [], None
        frames, timing = decode_frames(path)
    except ClipError as error:
        return "", [], f"{error.reason}: {error.detail}"
    except OSError as error:
        return "", [], f"unreadable: {error.strerror or error}"
    return content, missing, Clip(frames, timing.shown_rate, row["prompt"])


def _values(measure: Measure, clips: Mapping[int, Clip]) -> dict[int, np.ndarray | str]:
    """Values of each clip, or why there are none."""
    if not clips:
        return {}
    try:
        found = dict(zip(clips, measure(list(clips.values())), strict=True))
    except ValueError as error:
        if len(clips) == 1:
            return dict.fromkeys(clips, f"refused: {error}")
        return {n: _values(measure, {n: clip})[n] for n, clip in clips.items()}
    return {
        number: values if np.isfinite(values).all() else "the network's values are not finite"
        for number, values in found.items()
    }
