"""Our plain layout: a file of JSON lines (.jsonl, .ndjson), one comparison of two clips a line.

    {"prompt": "a ball rolls", "clip_a": "videos/0.mp4", "clip_b": "videos/1.mp4",
     "verdict": {"visual_quality": "A", "motion_quality": "tie"},
     "scores_a": {"object_motion": 3.5, "camera_motion": 1},
     "scores_b": {"object_motion": 2.0, "camera_motion": 1},
     "judge": "a person", "rationale": "the ball of B jumps"}

prompt      one line of text; line breaks become spaces
clip_a, clip_b
            paths, relative to the file's folder
verdict     A, B, tie or invalid for each dimension; a plain string is a verdict on "overall"
scores_a, scores_b
            optional: numbers by dimension, e.g. McDPO's object_motion and camera_motion
score_gap   optional: by how much clip_a is better, a number a dimension of the verdict
judge, rationale
            optional texts; they go with the line's verdicts and scores

A line may also hold one scored clip: prompt, clip_a and scores_a without clip_b and verdict. A file
that ends in .json is one list of such objects instead.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidpref.config.nearest import nearest
from vidpref.datasets.preferences.collecting import Collector, number
from vidpref.datasets.preferences.frames import OVERALL, Preferences
from vidpref.json_text import parse_json, read_json
from vidpref.text_files import read_text

_FIELDS = {
    "prompt": str,
    "clip_a": str,
    "clip_b": str,
    "verdict": str | dict,
    "scores_a": dict,
    "scores_b": dict,
    "score_gap": dict,
    "judge": str,
    "rationale": str,
}


def read_json_lines(path: Path) -> Preferences:
    """Reads a file; empty lines are skipped.

    Raises:
        ValueError: all of `parse_json`, a line or an entry of the list that is no object, an
            unknown or missing field or one of another type, a score that is no number, and all of
            `Collector`. Names file and line, or file and entry (from 0) of a .json list.
    """
    collector = Collector(path.parent)
    for where, record in _list(path) if path.suffix.lower() == ".json" else _lines(path):
        _add(collector, _checked(record, where), where)
    return collector.preferences(path)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            yield f"{path}, line {line}", parse_json(text, path, line)


def _list(path: Path) -> Iterator[tuple[str, Any]]:
    records = read_json(path)
    if not isinstance(records, list):
        raise ValueError(
            f"{path}: not a list of objects but a {type(records).__name__}; a file with one object "
            "a line is called .jsonl"
        )
    for entry, record in enumerate(records):
        yield f"{path}, entry {entry}", record


def _add(collector: Collector, record: dict[str, Any], where: str) -> None:
    said = {name: record.get(name, "") for name in ("judge", "rationale")}
    ids = {
        side: collector.clip(where, record[f"clip_{side}"], record["prompt"])
        for side in "ab"
        if f"clip_{side}" in record
    }
    for side, clip in ids.items():
        for dimension, value in record.get(f"scores_{side}", {}).items():
            score = number(value, where, f"scores_{side}.{dimension}")
            collector.score(where, clip, dimension, score, **said)
    verdicts = record.get("verdict", {})
    if isinstance(verdicts, str):
        verdicts = {OVERALL: verdicts}
    gaps = {
        dimension: number(value, where, f"score_gap.{dimension}")
        for dimension, value in record.get("score_gap", {}).items()
    }
    if without := [dimension for dimension in gaps if dimension not in verdicts]:
        raise ValueError(f"{where}: score_gap.{without[0]} has no verdict beside it")
    for dimension, verdict in verdicts.items():
        gap = gaps.get(dimension, math.nan)
        collector.compare(where, ids["a"], ids["b"], dimension, str(verdict), score_gap=gap, **said)


def _checked(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: not an object but {repr(record)[:40]}")
    for name, value in record.items():
        if name not in _FIELDS:
            hint = nearest(name, _FIELDS, most=1)
            raise ValueError(f"{where}: unknown field {name!r} ({hint})")
        if not isinstance(value, _FIELDS[name]):
            raise ValueError(f"{where}: {name}={repr(value)[:80]} has the wrong type")
    single = not {"clip_b", "verdict", "scores_b", "score_gap"} & set(record)
    needed = ("scores_a",) if single else ("clip_b", "verdict")
    missing = [name for name in ("prompt", "clip_a", *needed) if not record.get(name)]
    if missing:
        raise ValueError(f"{where}: no {', '.join(missing)}")
    return record
