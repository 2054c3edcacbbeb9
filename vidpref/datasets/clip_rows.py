"""Training rows: k clips of one condition with their rewards, from any indexed clip records."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from vidpref.datasets.text import TextCache
from vidpref.typing import Array, Float, Int


@runtime_checkable
class Records(Protocol):
    """Random access to records with at least `prompt` and `video` uint8 [t, h, w, c]."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


class JoinedRecords:
    """Several collections of records as one, those of the first in front."""

    def __init__(self, *parts: Records):
        self._parts = parts
        self.starts = np.cumsum([0, *map(len, parts)]).tolist()

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> dict:
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self._parts[part][index - self.starts[part]]


class ClipRows:
    """A grain source whose row is what `make_alignment_loss` takes, without the batch axis.

    Args:
        records: the clips. A record's `first_frame` conditions its row; where there is none, the
            clip's own first frame does.
        rows: for each row the indices of its k clips, winner first; all of one condition.
        rewards: for each row the k rewards.
        texts: embedding of every prompt.
        labels: what else is known of each row, by name; arrays of n rows.
        high: train the super-resolution stage: `video_high` from `video`, no first frame.
    """

    def __init__(
        self,
        records: Records,
        rows: Int[Array, "n k"],
        rewards: Float[Array, "n k"],
        texts: TextCache,
        *,
        labels: Mapping[str, Array] | None = None,
        high: bool = False,
    ):
        self._records, self._texts, self._high = records, texts, high
        self._rows, self._rewards = np.asarray(rows), np.asarray(rewards, np.float32)
        self._labels = dict(labels or {})

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def k(self) -> int:
        """Clips of a row."""
        return self._rows.shape[1]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        records = [self._records[int(i)] for i in self._rows[index]]
        first = records[0]
        text, mask = self._texts[_text(first["prompt"])]
        row = {"text": text, "text_mask": mask, "reward": self._rewards[index]}
        row |= {name: np.asarray(values[index]) for name, values in self._labels.items()}
        if self._high:
            row["clips"] = np.stack([r["video_high"] for r in records])
            row["low_res"] = first["video"]
        else:
            row["clips"] = np.stack([r["video"] for r in records])
            row["first_frame"] = first.get("first_frame", first["video"][0])
        return row


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # TFDS gives bytes
