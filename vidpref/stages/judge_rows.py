"""Training rows of a reward model: both clips of a pair and their labels, in few sizes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd

from vidpref.datasets.clip_rows import Records, text_of
from vidpref.datasets.preferences import Preferences
from vidpref.datasets.preferences.labels import clip_ratings, pair_labels
from vidpref.datasets.records import RecordFile
from vidpref.language.video_reward import RewardReader
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.reward import to_arrays
from vidpref.objectives.preference import Preference
from vidpref.typing import Array, Float, Int

_TOKENS = 256  # rows are padded to a multiple of it, so that there are few programs


@dataclasses.dataclass(frozen=True)
class SeenClips:
    """The frames of clips, as `write_frames` wrote them.

    Attributes:
        index: the clips by id: prompt, record, frames, height, width.
        records: their frames.
    """

    index: pd.DataFrame
    records: Records

    @classmethod
    def open(cls, folder: Path) -> "SeenClips":
        """Opens a finished frames stage."""
        index = pd.read_parquet(folder / "clips.parquet").set_index("id")
        return cls(index, RecordFile([folder / name for name in index["file"].unique()]))

    def record(self, number: int) -> dict:
        """Returns the record of a clip by its number in the index."""
        return self.records[int(self.index["record"].iloc[number])]


class JudgeRows:
    """A grain source of pairs, as `VideoRewardLoss` takes them, without the batch axis.

    Args:
        clips: the clips.
        reader: how they are seen.
        pairs: numbers of the clips of each pair, in `clips.index`.
        labels: numbers of `Preference`.
        ratings: of both clips in every dimension, NaN for none; None where none are learnt from.
        dtype: type of the pixels; the network computes the same of those in its own type.

    Attributes:
        shapes: bucket of each row: the rows of one bucket have one shape.
        rooms: size of the arrays of each bucket.
    """

    def __init__(
        self,
        clips: SeenClips,
        reader: RewardReader,
        pairs: Int[Array, "n 2"],
        labels: Int[Array, "n d"],
        ratings: Float[Array, "n 2 d"] | None = None,
        dtype: str = "float32",
    ):
        self._clips, self._reader, self._dtype = clips, reader, jnp.dtype(dtype)
        self._labels, self._ratings = np.asarray(labels, np.int32), ratings
        self._pairs = np.asarray(pairs)
        sizes = np.array([_size(row, reader) for _, row in clips.index.iterrows()])
        found, shapes = np.unique(sizes[pairs].max(axis=1), axis=0, return_inverse=True)
        self.rooms = [Room(*map(int, size)) for size in found]
        self.shapes: np.ndarray = shapes.reshape(-1)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        records = [self._clips.record(int(number)) for number in self._pairs[index]]
        rows = [self._reader.row(r["video"], r["fps"], text_of(r["prompt"])) for r in records]
        packed = self._reader.pack(rows, self.rooms[int(self.shapes[index])])
        found = {**to_arrays(packed), "preference": self._labels[index]}
        found["patch_pixels"] = found["patch_pixels"].astype(self._dtype)
        if self._ratings is not None:
            found["rating"] = self._ratings[index]
        return found


def compared(
    preferences: Preferences, clips: SeenClips, dimensions: Sequence[str], *, decided: bool = False
) -> tuple[Int[np.ndarray, "n 2"], Int[np.ndarray, "n d"]]:
    """Returns the pairs whose clips are both there, and their labels.

    Args:
        preferences: what was said.
        clips: the clips.
        dimensions: which labels.
        decided: leave out pairs without a winner in any dimension.
    """
    found = pair_labels(preferences, dimensions)
    there = found["clip_a"].isin(clips.index.index) & found["clip_b"].isin(clips.index.index)
    found = found[there]
    labels = found[list(dimensions)].to_numpy(np.int32)
    if decided:
        chosen = (labels < 2).any(axis=1)
        found, labels = found[chosen], labels[chosen]
    pairs = [clips.index.index.get_indexer(found[name]) for name in ("clip_a", "clip_b")]
    return np.stack(pairs, axis=1), labels


def rated(
    preferences: Preferences, clips: SeenClips, dimensions: Sequence[str], center: float
) -> tuple[Int[np.ndarray, "n 2"], Int[np.ndarray, "n d"], Float[np.ndarray, "n 2 d"]]:
    """Returns pairs of rated clips with labels, if there are some, and ratings less `center`.

    Pairs are those that are compared; where nothing is, the rated clips two by two, in the order of
    their ids.

    Args:
        preferences: what was said.
        clips: the clips.
        dimensions: which ratings.
        center: is taken off.
    """
    ratings = clip_ratings(preferences, dimensions).reindex(clips.index.index)
    values = ratings.to_numpy(np.float32) - np.float32(center)
    pairs, labels = compared(preferences, clips, dimensions)
    if not len(pairs):
        numbers = np.flatnonzero(~np.isnan(values).all(axis=1))
        order = numbers[np.argsort(clips.index.index[numbers])]
        order = np.concatenate([order, order[: len(order) % 2]])
        pairs = order.reshape(-1, 2)
        labels = np.full((len(pairs), len(dimensions)), Preference.INVALID, np.int32)
    found = values[pairs]
    there = ~np.isnan(found).all(axis=(1, 2))
    return pairs[there], labels[there], found[there]


def room_of(row: pd.Series, reader: RewardReader) -> Room:
    """Returns the room of a clip alone.

    Args:
        row: of `SeenClips.index`.
        reader: how clips are seen.
    """
    return Room(*_size(row, reader))


def largest_room(reader: RewardReader) -> Room:
    """Returns a room that no row exceeds: of `most_tokens`, filled with the largest frames.

    Args:
        reader: how clips are seen.
    """
    vision, most = reader.vision, _padded(reader.most_tokens)
    patches = reader.eye.videos.most // vision.patch_size**2
    seen = reader.viewing.most // vision.temporal_patch_size
    return Room(most, max(1, min(seen, most // (patches // vision.merged))), patches)


def _size(row: pd.Series, reader: RewardReader) -> tuple[int, int, int]:
    """Tokens, frames and patches of the room of a clip."""
    size = int(row["frames"]), int(row["height"]), int(row["width"])
    tokens, frames, patches = reader.room(*size, row["prompt"])
    return _padded(tokens), frames, patches


def _padded(tokens: int) -> int:
    return -(-tokens // _TOKENS) * _TOKENS
