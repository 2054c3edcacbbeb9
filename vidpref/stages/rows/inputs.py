"""What training rows are made of."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows, Records
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache
from vidpref.files import write_text
from vidpref.generation.scene_conditions import SceneConditions
from vidpref.stages.preferences import Encoded

_FEW = 50  # rows; see `account_for_pairs`


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
        seen: what the generator sees of a scene, for rows whose clips are drawn later.
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
    seen: SceneConditions | None = None
    seed: int = 0
    folder: Path | None = None

    def account_for_pairs(self, report: Any, rows: int, config: ConfigDict, **more: Any) -> None:
        """Says in a line how many rows train and why others do not, and writes `pairs.json`.

        The file holds the fields of `report`, and

            rows     number of training rows
            says     the line
            warning  why they are too few to mean anything, or ""

        and, of a file of preferences,

            file     all that it compares (`PairCounts`)
            weights  weight of each dimension
            rule     how verdicts become a preference, in words
            gaps     number of pairs whose gap of scores is `stated`, and `contradicting` a verdict

        An interval of 95 % for the rate at which 50 pairs are won is 14 points wide on each side:
        fewer do not tell a preference from a coin. Rows fewer than a batch come several times in
        each step.

        Args:
            report: how many were chosen and why others were not: a dataclass, readable by `str`.
            rows: number of training rows.
            config: the `align` section.
            **more: further parts of the account, by name.
        """
        account, said = dataclasses.asdict(report), [str(report)]
        if self.encoded is not None and self.encoded.counts is not None:
            account["file"] = dataclasses.asdict(self.encoded.counts)
            said.insert(0, f"the file has {self.encoded.counts}")
        batch = config.train.batch_size
        few = [f"fewer than {_FEW} do not tell a preference from chance"] if rows < _FEW else []
        few += [f"a batch has {batch} (align.train.batch_size)"] if rows < batch else []
        warning = f"only {rows} rows train: {'; '.join(few)}" if few else ""
        line = "; ".join([*said, f"{rows} rows train"])
        account |= {"rows": rows, "says": line, "warning": warning, **more}
        write_text(self.folder / "pairs.json", json.dumps(account, indent=2))
        logging.info("align: %s", line)
        if warning and rows:
            logging.warning("align: %s", warning)

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
