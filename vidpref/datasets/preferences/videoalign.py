"""VideoAlign's CSV: two clips of a prompt a row, and a label for each dimension.

    path_A,path_B,prompt,VQ,MQ,TA,fps_A,num_frames_A,fps_B,num_frames_B

Paths are relative to the file's folder. Labels are A, B, same and invalid. VideoGen-RewardBench
has the same columns and Overall, A_model and B_model. Only the paths, the prompt and one label
column must be there; columns with other names are not read. Format: KwaiVGI/VideoAlign,
datasets/train/README.md and eval_videogen_rewardbench.py.
"""

import csv
import difflib
import io
import math
from collections import Counter
from pathlib import Path

from vidpref.datasets.preferences.collecting import Collector, read_text
from vidpref.datasets.preferences.frames import OVERALL, Preferences

DIMENSIONS = {
    "VQ": "visual_quality",
    "MQ": "motion_quality",
    "TA": "text_alignment",
    "Overall": OVERALL,
}
LABELS = {"A": "A", "B": "B", "same": "tie", "invalid": "invalid"}
_NEEDED = ("path_A", "path_B", "prompt")
_OPTIONAL = ("fps_A", "num_frames_A", "fps_B", "num_frames_B", "A_model", "B_model")


def read_videoalign(path: Path) -> Preferences:
    """Reads a CSV file; the judges of its labels are not stated.

    Raises:
        ValueError: no such file; a column that is missing, stands twice or is misspelt; an unknown
            label; a number that is none; and all of `Collector`. Names file and line.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)))
    columns = _columns(path, list(reader.fieldnames or ()))
    collector = Collector(path.parent)
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise ValueError(
                f"{where}: not as many fields as the header has ({len(columns)}); a prompt with a "
                "comma needs quotes"
            )
        ids = [
            collector.clip(
                where,
                row[f"path_{side}"],
                row["prompt"],
                source=row.get(f"{side}_model", "").strip(),
                fps=_number(row, f"fps_{side}", where),
                frames=_number(row, f"num_frames_{side}", where),
            )
            for side in "AB"
        ]
        for column, dimension in DIMENSIONS.items():
            if column in columns:
                label = row[column].strip()
                if label not in LABELS:
                    raise ValueError(
                        f"{where}: unknown label {column}={label!r}; known: {', '.join(LABELS)}"
                    )
                collector.compare(where, *ids, dimension, LABELS[label])
    return collector.preferences(path)


def _columns(path: Path, columns: list[str]) -> list[str]:
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: the column {repeated[0]!r} stands twice; remove one")
    missing = [name for name in _NEEDED if name not in columns]
    if not any(name in columns for name in DIMENSIONS):
        missing.append(" or ".join(DIMENSIONS))
    if missing:
        raise ValueError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}"
        )
    absent = {n.lower(): n for n in (*DIMENSIONS, *_OPTIONAL) if n not in columns}
    for name in set(columns) - {*_NEEDED, *DIMENSIONS, *_OPTIONAL}:
        near = difflib.get_close_matches(name.strip().lower(), absent, n=1, cutoff=0.8)
        if near:
            raise ValueError(
                f"{path}: unknown column {name!r} (did you mean {absent[near[0]]}?); rename it"
            )
    return columns


def _number(row: dict[str, str], column: str, where: str) -> float:
    text = row.get(column, "").strip()
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = -1.0
    if value <= 0:
        raise ValueError(f"{where}: {column}={text!r} is not a positive number")
    return value
