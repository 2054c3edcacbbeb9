"""Answers as preference records: lines of JSON that `datasets/preferences/json_lines.py` reads.

Of comparisons, `aggregate` says what a line is:

each      one annotator's verdicts on a pair, named by him (`judge`). Whoever reads the records
          takes the mean of several, and of a pair on which A and B were both said, nothing.
majority  one line a pair: in each dimension the verdict that most gave, and a tie where no verdict
          has more votes than each other one.
soft      the same with `score_gap`: in each dimension votes for A less votes for B, as a share of
          all, so that `config.align.pair_weight=gap` weighs a pair by how clear it was.

Invalid answers are no votes; where all are invalid, so is the verdict, and the gap is 0. Grades are
written as scores, an annotator a line, less the middle grade, so that 0 lies between good and bad.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidpref.annotation.answers import item_of
from vidpref.annotation.journal import Entry
from vidpref.annotation.task import INVALID, MIDDLE, TIE
from vidpref.files import write_text

AGGREGATES = ("each", "majority", "soft")
RECORDS = "annotations.jsonl"


def records(
    entries: Sequence[Entry], kind: str, dimensions: Sequence[str], aggregate: str
) -> list[dict[str, Any]]:
    """Returns the lines, those of an item beside each other.

    Args:
        entries: answers that stand, without checks.
        kind, dimensions: of the task.
        aggregate: one of `AGGREGATES`.

    Raises:
        ValueError: a vote on grades.
    """
    check_aggregate(kind, aggregate)
    by_item: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_item[item_of(entry).id].append(entry)
    if kind == "grade":
        lines = [_graded(entry) for group in by_item.values() for entry in group]
        return [line for line in lines if line["scores_a"]]
    if aggregate == "each":
        return [_compared(entry) for group in by_item.values() for entry in group]
    return [_voted(group, dimensions, aggregate == "soft") for group in by_item.values()]


def check_aggregate(kind: str, aggregate: str) -> None:
    """Refuses a vote on grades, which have a mean."""
    if kind == "grade" and aggregate != "each":
        raise ValueError(
            f"--aggregate={aggregate} goes with comparisons: of grades, whoever reads the records "
            "takes the mean"
        )


def write_records(folder: Path, lines: Sequence[dict[str, Any]]) -> Path:
    """Writes annotations.jsonl, whole, and returns its path."""
    path = folder / RECORDS
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def verdicts(entry: Entry) -> dict[str, str]:
    """Returns the verdicts of a comparison: A for the clip whose name is the first of the two."""
    left = "A" if entry["clips"] == sorted(entry["clips"]) else "B"
    named = {"left": left, "right": "B" if left == "A" else "A"}
    return {dimension: named.get(said, said) for dimension, said in entry["answer"].items()}


def _compared(entry: Entry) -> dict[str, Any]:
    clip_a, clip_b = sorted(entry["clips"])
    line = {"prompt": entry["prompt"], "clip_a": clip_a, "clip_b": clip_b}
    return line | {"verdict": verdicts(entry)} | _said(entry)


def _graded(entry: Entry) -> dict[str, Any]:
    (clip,) = entry["clips"]
    given = {d: int(said) - MIDDLE for d, said in entry["answer"].items() if said != INVALID}
    return {"prompt": entry["prompt"], "clip_a": clip, "scores_a": given} | _said(entry)


def _said(entry: Entry) -> dict[str, str]:
    return {"judge": entry["annotator"]} | ({"rationale": entry["note"]} if entry["note"] else {})


def _voted(group: Sequence[Entry], dimensions: Sequence[str], soft: bool) -> dict[str, Any]:
    line = _compared(group[0])
    votes = {d: Counter(verdicts(entry)[d] for entry in group) for d in dimensions}
    line["verdict"] = {d: _most(counted) for d, counted in votes.items()}
    people = len(group)
    line["judge"] = f"{'soft' if soft else 'majority'} vote of {people}"
    line.pop("rationale", None)
    notes = [f"{entry['annotator']}: {entry['note']}" for entry in group if entry["note"]]
    if notes:
        line["rationale"] = "; ".join(notes)
    if soft:
        line["score_gap"] = {d: _gap(counted) for d, counted in votes.items()}
    return line


def _most(votes: Counter) -> str:
    valid = Counter({said: count for said, count in votes.items() if said != INVALID})
    if not valid:
        return INVALID
    (first, most), *rest = valid.most_common(2)
    return TIE if rest and rest[0][1] == most else first


def _gap(votes: Counter) -> float:
    valid = sum(count for said, count in votes.items() if said != INVALID)
    return round((votes["A"] - votes["B"]) / max(valid, 1), 6)
