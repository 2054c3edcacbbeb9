"""Training rows: k clips of one condition with their rewards, from any indexed clip records."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from vidpref.datasets.text import TextCache
from vidpref.typing import Array, Float, Int


@runtime_checkable
class Records(Protocol):
    """Random access to records with at least `prompt` and the clip: `video` uint8 [t, h, w, c], or
    `latent`.
    """

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


# Of records of latents: what an image-to-video generator sees of the first frame.
IMAGE_FIELDS = ("image_latent", "image_states")


class ClipRows:
    """A grain source whose row is what `make_alignment_loss` takes, without the batch axis.

    Args:
        records: the clips. A record's `first_frame` conditions its row; where there is none, the
            clip's own first frame does.
        rows: for each row the indices of its k clips, winner first; all of one condition.
        rewards: for each row the k rewards.
        texts: embedding of every prompt.
        labels: what else is known of each row, by name; arrays of n rows.
        clips: field of the clips: "video", "latent", or "video_high" for super-resolution, which
            is conditioned on `video`.
        null_prompt: text that stands for none, where rows are to have its embedding.
        shapes: bucket of each row: the rows of one bucket have one shape; None for one bucket.
    """

    def __init__(
        self,
        records: Records,
        rows: Int[Array, "n k"],
        rewards: Float[Array, "n k"],
        texts: TextCache,
        *,
        labels: Mapping[str, Array] | None = None,
        clips: str = "video",
        null_prompt: str | None = None,
        shapes: Int[Array, " n"] | None = None,
    ):
        self._records, self._texts, self._clips = records, texts, clips
        self._null_prompt, self.shapes = null_prompt, shapes
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
        text, mask = self._texts[text_of(first["prompt"])]
        row = {"text": text, "text_mask": mask, "reward": self._rewards[index]}
        row |= {name: np.asarray(values[index]) for name, values in self._labels.items()}
        if self._null_prompt is not None:
            row["null_text"], row["null_text_mask"] = self._texts[self._null_prompt]
        row["clips"] = np.stack([r[self._clips] for r in records])
        if self._clips == "video_high":
            row["low_res"] = first["video"]
        elif self._clips == "video":
            row["first_frame"] = first.get("first_frame", first["video"][0])
        row |= {name: first[name] for name in IMAGE_FIELDS if name in first}
        return row


def text_of(value: str | bytes) -> str:
    """Returns a text field of a record."""
    return value.decode() if isinstance(value, bytes) else value  # TFDS gives bytes
