"""What came of it, in tables: the annotators, how far they agree, and who won."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from vidpref.annotation.answers import Standing, item_of
from vidpref.annotation.journal import Entry
from vidpref.annotation.records import verdicts
from vidpref.annotation.task import INVALID, TIE
from vidpref.evaluation.intervals import clustered_mean, clustered_rate
from vidpref.evaluation.krippendorff import alpha_interval
from vidpref.evaluation.tables import Cell, Estimate, Table

_VALUES = {"A": 1.0, TIE: 0.0, "B": -1.0}
_BASELINE = "pretrained"  # what others stand against
_PEOPLE = (
    "Undone: answers taken back. Left: of decided comparisons, those that the left clip won; far "
    "from 50 % it is the place that decides. Twins: one clip on both sides, called a tie in every "
    "dimension. Repeats: answers of a second showing, sides swapped, that are those of the first."
)
_AGREEMENT = (
    "Alpha is Krippendorff's, {level}, of items with two annotators or more: 1 is full agreement, "
    "0 that of chance; with its 95 % interval over prompts. It says nothing (–) where no item has "
    "two, or all said the same of everything. Invalid answers are left out of it."
)


def annotators(standing: Standing) -> Table:
    """Returns a row an annotator: answers, invalid, undone, speed, sides, attention checks."""
    rows = []
    for name, entries in standing.by_annotator.items():
        answers = [entry for entry in entries.values() if not entry["check"]]
        if not entries:
            continue
        said = [value for entry in answers for value in entry["answer"].values()]
        decided = [value for value in said if value in ("left", "right")]
        seconds = [entry["seconds"] for entry in entries.values()]
        rows.append(
            [
                *(name, len(answers), said.count(INVALID), standing.undos[name]),
                f"{np.median(seconds):.1f}",
                _share(decided.count("left"), len(decided)),
                _of(*_twins(entries)),
                _of(*_repeats(entries)),
            ]
        )
    columns = ["Annotator", "Answers", "Invalid", "Undone", "Seconds", "Left", "Twins", "Repeats"]
    return Table("Annotators", columns, rows, _PEOPLE)


def agreement(entries: Sequence[Entry], kind: str, dimensions: Sequence[str]) -> Table:
    """Returns a row a dimension: how often what was said, and Krippendorff's alpha.

    Args:
        entries: answers that stand, without checks.
        kind, dimensions: of the task.
    """
    level: Literal["nominal", "ordinal"] = "nominal" if kind == "compare" else "ordinal"
    rows: list[list[Cell]] = []
    for dimension in dimensions:
        ratings, prompts = _ratings(entries, kind, dimension)
        counts = Counter(entry["answer"][dimension] for entry in entries)
        several = int(((~np.isnan(ratings)).sum(axis=1) > 1).sum())
        alpha, low, high = alpha_interval(ratings, prompts, level)
        estimate = None if np.isnan(alpha) else Estimate(alpha, low, high, percent=False)
        row = [dimension.replace("_", " "), len(entries), counts[INVALID], several, estimate]
        rows.append(row[:2] + ([counts[TIE]] if kind == "compare" else []) + row[2:])
    ties = ["Ties"] if kind == "compare" else []
    columns = ["Dimension", "Answers", *ties, "Invalid", "By several", "Alpha"]
    return Table("Agreement", columns, rows, _AGREEMENT.format(level=level))


def preferred(entries: Sequence[Entry], dimensions: Sequence[str]) -> Table | None:
    """Returns how often the clips of one source were preferred to those of another.

    None where no answer is about clips of two sources.
    """
    found = [sorted(e["sources"], key=_order) for e in entries if len(set(e["sources"])) == 2]
    rows: list[list[Cell]] = []
    for one, other in sorted(set(map(tuple, found))):
        about = [entry for entry in entries if set(entry["sources"]) == {one, other}]
        for dimension in dimensions:
            said = [(e, _won(e, dimension, one)) for e in about]
            said = [(entry, won) for entry, won in said if won is not None]
            if not said:
                continue
            won = np.array([value for _, value in said])
            rate = clustered_rate(won, _prompts([entry for entry, _ in said]))
            counts = [int((won == value).sum()) for value in (1.0, 0.5, 0.0)]
            rows.append([one, other, dimension.replace("_", " "), *counts, Estimate(*rate)])
    if not rows:
        return None
    columns = ["Source", "Against", "Dimension", "Better", "Ties", "Worse", "Rate"]
    caption = "Rate: per cent of answers, a tie being half, with its 95 % interval over prompts."
    return Table("Preferred", columns, rows, caption)


def grades(entries: Sequence[Entry], dimensions: Sequence[str]) -> Table:
    """Returns the mean grade of each source's clips, with its interval."""
    rows: list[list[Cell]] = []
    for source in sorted({entry["sources"][0] for entry in entries}):
        for dimension in dimensions:
            about = [
                entry
                for entry in entries
                if entry["sources"][0] == source and entry["answer"][dimension] != INVALID
            ]
            if about:
                given = np.array([float(entry["answer"][dimension]) for entry in about])
                mean = clustered_mean(given, _prompts(about), bounds=(1.0, 5.0))
                cells = [source, dimension.replace("_", " "), len(about)]
                rows.append([*cells, Estimate(*mean, percent=False)])
    caption = "Means of grades from 1 to 5, with 95 % intervals over prompts."
    return Table("Grades", ["Source", "Dimension", "Answers", "Mean"], rows, caption)


def tables(standing: Standing, kind: str, dimensions: Sequence[str]) -> list[Table]:
    """Returns all of this room's tables."""
    entries = standing.answers()
    last = preferred(entries, dimensions) if kind == "compare" else grades(entries, dimensions)
    found = [annotators(standing), agreement(entries, kind, dimensions)]
    return [*found, last] if last is not None and last.rows else found


def _ratings(entries: Sequence[Entry], kind: str, dimension: str) -> tuple[np.ndarray, np.ndarray]:
    """Ratings [items, annotators], nan where there is none, and the prompt of each item."""
    items = {item_of(entry).id: entry["prompt"] for entry in entries}
    people = list(dict.fromkeys(entry["annotator"] for entry in entries))
    place = {item: number for number, item in enumerate(items)}
    found = np.full((len(items), len(people)), np.nan)
    for entry in entries:
        said = entry["answer"][dimension]
        if said == INVALID:
            continue
        value = _VALUES[verdicts(entry)[dimension]] if kind == "compare" else float(said)
        found[place[item_of(entry).id], people.index(entry["annotator"])] = value
    return found, np.unique(list(items.values()), return_inverse=True)[1]


def _prompts(entries: Sequence[Entry]) -> np.ndarray:
    return np.unique([entry["prompt"] for entry in entries], return_inverse=True)[1]


def _order(source: str) -> tuple[bool, str]:
    return source == _BASELINE, source


def _won(entry: Entry, dimension: str, source: str) -> float | None:
    """1 where the source's clip was preferred, 0.5 for a tie; None for an invalid answer."""
    said = entry["answer"][dimension]
    if said not in ("left", "right"):
        return 0.5 if said == TIE else None
    return float(entry["sources"][said == "right"] == source)


def _twins(entries: dict[str, Entry]) -> tuple[int, int]:
    shown = [entry for entry in entries.values() if entry["check"] == "twin"]
    return sum(set(entry["answer"].values()) == {TIE} for entry in shown), len(shown)


def _repeats(entries: dict[str, Entry]) -> tuple[int, int]:
    """Answers of repeats that are the same as before, and all of them."""
    same = total = 0
    for entry in entries.values():
        before = entries.get(entry["key"].removeprefix("repeat-"))
        if entry["check"] != "repeat" or before is None:
            continue
        compared = len(entry["clips"]) > 1
        again, first = (verdicts(e) if compared else e["answer"] for e in (entry, before))
        same += sum(again[dimension] == first[dimension] for dimension in first)
        total += len(first)
    return same, total


def _of(part: int, whole: int) -> str | None:
    return f"{part} of {whole}" if whole else None


def _share(part: int, whole: int) -> str | None:
    return f"{100 * part / whole:.0f} %" if whole else None
