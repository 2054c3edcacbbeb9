"""What `launch/correlate.py` says of automatic scores and people, and the files it writes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from vidpref.datasets.bad_clips import BadClips
from vidpref.evaluation.correlation_figure import draw_correlations
from vidpref.evaluation.correlation_levels import (
    FEWEST_POLICIES,
    LevelCorrelation,
    level_correlations,
)
from vidpref.evaluation.correlation_tables import correlation_frame, correlation_tables
from vidpref.files import write_text
from vidpref.runs import score_tables
from vidpref.runs.correlated_scores import Scores, join

_COUNTED = {"prompt": "prompts", "policy": "policies", "category": "categories"}


@dataclasses.dataclass(frozen=True)
class Correlated:
    """How automatic scores go with the truth.

    Attributes:
        about: what was correlated, a line, and what could not be.
        found: at every level that there is.
        skipped: clips that could not be used, wholly or in part.
    """

    about: str
    found: Sequence[LevelCorrelation]
    skipped: BadClips

    def text(self) -> str:
        """Returns the tables for a terminal, with the clips that could not be used."""
        tables = [table.to_text() for table in correlation_tables(self.found)]
        left_out = [f"left out:\n{self.skipped.table()}\n"] if len(self.skipped) else []
        return "\n".join([f"{self.about}\n", *tables, *left_out])


def correlate(
    truth: Scores, tables: Sequence[Scores], only: Mapping[str, str] | None = None
) -> Correlated:
    """Returns the correlations of tables of scores with the truth.

    Args:
        truth: what people said.
        tables: automatic scores.
        only: column of `ABOUT` -> what it says of the clips that count, such as a split.

    Raises:
        ValueError: as `join`; no clips of which a column says so.
    """
    joined = join(truth, tables)
    clips, said, scores = joined.clips, joined.truth, joined.proxies
    for column, wanted in (only or {}).items():
        there = clips.get(column, pd.Series(dtype=str))
        if wanted not in set(there):
            known = ", ".join(sorted(set(there))) or f"none: no table has a column {column}"
            raise ValueError(f"--{column}={wanted}: no clips of it; there are {known}")
        clips, said, scores = (table[there == wanted] for table in (clips, said, scores))
    names = ", ".join(table.name for table in tables)
    left_out = [f"{count} {reason}" for reason, count in joined.skipped.counts().items()]
    chosen = "".join(f", {column} {wanted}" for column, wanted in (only or {}).items())
    about = f"{names} against {truth.name}{chosen}: {_counts(clips)}"
    about = "; ".join([about, *([f"left out: {', '.join(left_out)}"] if left_out else [])])
    return Correlated(about, level_correlations(clips, said, scores), joined.skipped)


def write(folder: Path, found: Correlated) -> list[Path]:
    """Writes correlations.md, .csv (unrounded) and .png, and left_out.csv where clips were.

    Returns their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"correlations.{ending}" for ending in ("md", "csv", "png")]
    tables = [table.to_markdown() for table in correlation_tables(found.found)]
    write_text(paths[0], "\n".join([f"{found.about}\n", *tables]))
    score_tables.write(paths[1], correlation_frame(found.found))
    draw_correlations(paths[2], found.found, found.about.partition(";")[0])
    return [*paths, *found.skipped.write_left_out(folder)]


def _counts(clips: pd.DataFrame) -> str:
    """How many clips, prompts, policies and categories there are, and what that leaves out."""
    parts = [f"{len(clips)} clips"]
    counts = {column: clips[column].nunique() for column in _COUNTED if column in clips}
    parts += [f"{n} {_COUNTED[one] if n != 1 else one}" for one, n in counts.items()]
    notes = []
    if "prompt" not in clips:
        notes.append("no table has prompts, so intervals take clips for independent")
    if 1 < counts.get("policy", 1) < FEWEST_POLICIES:
        notes.append(f"fewer than {FEWEST_POLICIES} policies have no correlation of means")
    return "; ".join([", ".join(parts), *notes])
