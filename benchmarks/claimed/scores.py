"""The scores of every clip, kept compactly for longer than the work directories that made them.

    FOLDER/clips-DIGEST.parquet             which clips: split, category, prompt, scene_id, sample
    FOLDER/seedN/POLICY-FINGERPRINT.parquet a column a dimension, and one of the proxy where there
                                            is one; a row a clip of the list above

Acceptance takes a bit a clip, a graded score a byte: steps of 0.4 points of 100, less than the half
point below which the win rate calls two scores equal. The fingerprint is that of the stage that
judged the clips, so it changes with all that the scores depend on.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from claimed.claim import DIMENSIONS, PROXY
from vidpref.files import whole_file

_CLIP = ["split", "category", "prompt", "scene_id", "sample"]
_LEVELS = 250  # of a graded score of [0, 1]
_KEY = b"vidpref.clips"


class Scores:
    """A folder of scores.

    Args:
        folder: need not exist yet.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lists: dict[str, pd.DataFrame] = {}

    def path(self, policy: str, seed: int, fingerprint: str) -> Path:
        """Returns where a policy's scores lie."""
        return self.folder / f"seed{seed}" / f"{policy}-{fingerprint}.parquet"

    def versions(self, policy: str, seed: int) -> list[str]:
        """Returns the fingerprints under which a policy's scores are there."""
        found = (self.folder / f"seed{seed}").glob("*.parquet")
        parts = [path.stem.rpartition("-") for path in found]
        return sorted(fingerprint for name, _, fingerprint in parts if name == policy)

    def write(self, frame: pd.DataFrame, policy: str, seed: int, fingerprint: str) -> None:
        """Keeps the scores of a policy.

        Args:
            frame: a row a clip, as `measuring.scored` returns them.
            policy, seed, fingerprint: whose they are.

        Raises:
            ValueError: a dimension is missing, or a score lies outside of [0, 1].
        """
        frame = frame.sort_values(_CLIP, ignore_index=True)
        names = (*DIMENSIONS, PROXY) if PROXY in frame else DIMENSIONS
        columns = {name: _packed(frame, name, policy) for name in names}
        digest = self._write_clips(frame[_CLIP])
        table = pa.table(columns).replace_schema_metadata({_KEY: digest})
        path = self.path(policy, seed, fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, table)

    def read(self, policy: str, seed: int, fingerprint: str) -> pd.DataFrame:
        """Returns a row a clip: split, category, prompt, scene_id, sample, the dimensions, and the
        proxy where there is one.

        Raises:
            ValueError: the list of the clips is missing.
        """
        table = pq.read_table(self.path(policy, seed, fingerprint))
        clips = self._clips(table.schema.metadata[_KEY].decode())
        scores = {
            name: np.asarray(table[name]).astype(np.float32)
            / (1 if table[name].type == pa.bool_() else _LEVELS)
            for name in table.column_names
        }
        return clips.assign(**scores)

    def _write_clips(self, clips: pd.DataFrame) -> str:
        digest = hashlib.sha256(clips.to_csv(index=False).encode()).hexdigest()[:12]
        path = self.folder / f"clips-{digest}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, pa.Table.from_pandas(clips, preserve_index=False))
        return digest

    def _clips(self, digest: str) -> pd.DataFrame:
        path = self.folder / f"clips-{digest}.parquet"
        if digest not in self._lists:
            if not path.exists():
                raise ValueError(f"{path} is missing: scores name it as the list of their clips")
            self._lists[digest] = pq.read_table(path).to_pandas()
        return self._lists[digest]


def same_clips(frames: Sequence[pd.DataFrame]) -> bool:
    """Whether the rows of all frames are of the same prompts and noise."""
    first = frames[0][_CLIP]
    return all(first.equals(frame[_CLIP]) for frame in frames[1:])


def _packed(frame: pd.DataFrame, name: str, policy: str) -> pa.Array:
    if name not in frame:
        raise ValueError(f"{policy}: the judge gave no {name!r}; ask for it in reward.dimensions")
    values = frame[name].to_numpy(np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{policy}: {name!r} must lie in [0, 1] for every clip")
    if name == "accept" and np.isin(values, (0.0, 1.0)).all():
        return pa.array(values > 0)
    return pa.array(np.rint(values * _LEVELS).astype(np.uint8))


def _write(path: Path, table: pa.Table) -> None:
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19)
