"""What `launch/evaluate_judge.py` says of a judge, and the files that it writes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.benchmarks import Benchmark
from vidpref.evaluation.judge_accuracy import JudgeAccuracy, judge_accuracy
from vidpref.evaluation.judge_figure import draw_accuracy
from vidpref.evaluation.judge_tables import (
    accuracy_frame,
    accuracy_table,
    agreement_table,
    position_table,
)
from vidpref.evaluation.judged_pairs import judged_by_scores, judged_by_verdicts
from vidpref.evaluation.scored_clips import ScoreAgreement, score_agreement
from vidpref.evaluation.tables import Table
from vidpref.files import write_text
from vidpref.runs import score_tables

_PAIR = ("clip_a", "clip_b")


def read_scores(path: Path) -> pd.DataFrame:
    """Reads a table of scores of clips, or of verdicts on pairs.

    Raises:
        ValueError: as `score_tables.read`; the columns of neither.
    """
    table = score_tables.read(path, ())
    if "clip" not in table and not set(_PAIR) <= set(table):
        raise ValueError(
            f"{path}: no column clip, as tables of scores have, and no clip_a and clip_b, as "
            f"tables of verdicts have; it has {', '.join(table)}"
        )
    return table


@dataclasses.dataclass(frozen=True)
class Measured:
    """How good a judge is.

    Attributes:
        about: what was measured on what, a line.
        accuracy: on pairs, in each dimension that people and the judge have.
        agreement: on clips that people scored, likewise.
        skipped: rows that could not be used.
    """

    about: str
    accuracy: Sequence[JudgeAccuracy]
    agreement: Sequence[ScoreAgreement]
    skipped: BadClips

    def tables(self) -> list[Table]:
        """Returns what readers see."""
        found = [accuracy_table(self.accuracy)] if self.accuracy else []
        more = (position_table(self.accuracy), agreement_table(self.agreement))
        return [*found, *(table for table in more if table is not None)]

    def text(self) -> str:
        """Returns the tables for a terminal, with the rows that could not be used."""
        parts = [f"{self.about}\n", *(table.to_text() for table in self.tables())]
        if len(self.skipped):
            parts.append(f"left out:\n{self.skipped.table()}\n")
        return "\n".join(parts)


def measure(
    read: Benchmark,
    table: pd.DataFrame,
    match: Mapping[str, Sequence[str]],
    *,
    about: str = "",
    partial: bool = False,
) -> Measured:
    """Returns how good a judge is in each dimension that people and it have.

    Args:
        read: what people said.
        table: scores or verdicts, as `read_scores` returns them.
        match: see `judged_by_scores`.
        about: see `Measured`.
        partial: leave out pairs that were not judged, instead of refusing them.

    Raises:
        ValueError: all of `judged_by_scores`, `judged_by_verdicts` and `judge_accuracy`.
    """
    comparisons, scored = read.preferences.comparisons, read.preferences.scores
    of_pairs = set(_PAIR) <= set(table)
    accuracy: list[JudgeAccuracy] = []
    agreement: list[ScoreAgreement] = []
    if len(comparisons):
        judged = judged_by_verdicts if of_pairs else judged_by_scores
        pairs = judged(comparisons, table, match, partial=partial)
        accuracy = [judge_accuracy(one) for one in pairs]
    columns = {*match, *table.columns}
    shared = [name for name in scored["dimension"].unique() if name in columns]
    if not of_pairs and (shared or not len(comparisons)):
        chosen = {name: names for name, names in match.items() if name in shared}
        scored = scored[scored["dimension"].isin(shared)] if len(comparisons) else scored
        agreement = score_agreement(scored, table, chosen)
    return Measured(about, accuracy, agreement, read.skipped)


def about(read: Benchmark, pairs: str, judge: str) -> str:
    """Returns what is measured on what, a line."""
    comparisons = read.preferences.comparisons
    prompts, clips = read.preferences.clips["prompt"].nunique(), len(read.preferences.clips)
    text = (
        f"{judge} on {Path(pairs).name} ({read.layout}): {len(comparisons)} votes, {clips} clips, "
        f"{prompts} prompts"
    )
    notes = [f"{count} votes {reason}" for reason, count in read.left_out.items()]
    notes += [f"{count} times {reason}" for reason, count in read.skipped.counts().items()]
    return "; ".join([text, *notes])


def write(folder: Path, found: Measured) -> list[Path]:
    """Writes accuracy.md, and, of pairs, accuracy.csv and accuracy.png; where rows could not be
    used, left_out.csv. Returns their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "accuracy.md"]
    tables = [table.to_markdown() for table in found.tables()]
    write_text(paths[0], "\n".join([f"{found.about}\n", *tables]))
    if found.accuracy:
        paths += [folder / "accuracy.csv", folder / "accuracy.png"]
        score_tables.write(paths[1], accuracy_frame(found.accuracy))
        draw_accuracy(paths[2], found.accuracy, found.about.partition(":")[0])
    return [*paths, *found.skipped.write_left_out(folder)]
