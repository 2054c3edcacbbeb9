"""What training rows are made of."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidpref.datasets.clip_rows import ClipRows, Records
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache
from vidpref.files import write_text
from vidpref.stages.preferences import Encoded


@dataclasses.dataclass(frozen=True)
class RowInputs:
    """What rows are made of; a field that the row builder does not use may be None.

    Attributes:
        data: the data set, with its real clips.
        texts: embedding of every prompt.
        clips: folder of sampled clips.
        labels: folder of their labels.
        losers: folder of clips that were sampled for the scenes of the real clips.
        encoded: the data set's preferences, where it has some.
        output: field of the clips in records: the generator's `output`.
        null_prompt: text that stands for none, as in `ClipRows`.
        seed: seed of the choice of pairs.
        folder: where `pairs.json` goes, the account of which clips gave pairs and which none.
    """

    data: Data
    texts: TextCache
    clips: Path | None = None
    labels: Path | None = None
    losers: Path | None = None
    encoded: Encoded | None = None
    output: str = "video"
    null_prompt: str | None = None
    seed: int = 0
    folder: Path | None = None

    def account_for_pairs(self, report: Any) -> None:
        """Writes how many clips were paired, and why others were not, a dataclass."""
        account = json.dumps(dataclasses.asdict(report), indent=2)
        write_text(self.folder / "pairs.json", account)

    def rows(
        self,
        records: Records,
        rows: np.ndarray,
        rewards: np.ndarray,
        labels: Mapping[str, np.ndarray] | None = None,
    ) -> ClipRows:
        """Returns training rows of clips as the generator makes them; see `ClipRows`."""
        shapes = None
        if self.encoded is not None and records is self.encoded.records:
            shapes = self.encoded.shapes[rows[:, 0]]
        return ClipRows(
            records,
            rows,
            rewards,
            self.texts,
            labels=labels,
            clips=self.output,
            null_prompt=self.null_prompt,
            shapes=shapes,
        )
