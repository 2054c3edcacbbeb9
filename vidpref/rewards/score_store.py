"""What a judge said of a clip and a prompt, kept by their content: nobody asks, or pays, twice.

A folder has a folder for each judge, named by what its scores depend on, and in it tables of
answers under a digest of the video's bytes, the prompt and how many frames were shown. Several
processes write tables of their own; a file that was moved or copied is known.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vidpref.files import write_table, write_text
from vidpref.rewards.by_name import NamedJudge

_KEY = "key"


class ScoreStore:
    """The answers of one judge.

    Args:
        folder: folder of all judges.
        judge: the judge.
    """

    def __init__(self, folder: Path, judge: NamedJudge):
        self._folder = folder / f"{judge.name}-{judge.fingerprint}"
        self._folder.mkdir(parents=True, exist_ok=True)
        said = json.dumps(judge.causes, indent=2, default=str)
        write_text(self._folder / "judge.json", said + "\n")
        self._known: dict[str, dict[str, Any]] = {}
        self._new: list[str] = []
        self._read: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        """Reads what was written since, by other processes too."""
        for path in sorted(set(self._folder.glob("*.parquet")) - self._read):
            self._read.add(path)
            for row in pd.read_parquet(path).to_dict("records"):
                self._known[row.pop(_KEY)] = row

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Returns an answer; None where there is none."""
        return self._known.get(key)

    def add(self, key: str, answer: Mapping[str, Any]) -> None:
        """Notes an answer, which `flush` writes."""
        self._known[key] = dict(answer)
        self._new.append(key)

    def flush(self) -> None:
        """Writes what was added since the last call; it is on disk when this returns."""
        if not self._new:
            return
        name = hashlib.sha256("\n".join(sorted(self._new)).encode()).hexdigest()[:16]
        rows = [{_KEY: key, **self._known[key]} for key in self._new]
        path = self._folder / f"{name}.parquet"
        write_table(path, pd.DataFrame(rows))
        self._read.add(path)
        self._new = []


def content_key(path: Path, prompt: str, frames: int) -> str:
    """Returns the key of a video file, a prompt and how many frames are shown at most (0: all).

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps([content, prompt, frames]).encode()).hexdigest()
