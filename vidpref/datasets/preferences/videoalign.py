"""VideoAlign's CSV: two clips of a prompt a row, and a label for each dimension.

    path_A,path_B,prompt,VQ,MQ,TA,fps_A,num_frames_A,fps_B,num_frames_B

Paths are relative to the folder of the file, wherever the program is started; absolute ones stay.
Labels are A, B, same (or tie) and invalid. VideoGen-RewardBench has the same columns and Overall,
A_model and B_model. Only the paths, the prompt and one label column must be there; columns with
other names are not read. Who has asked only which clip is better calls that column winner, which is
read as Overall is, a verdict on "overall":

    path_A,path_B,prompt,winner
    videos/0.mp4,videos/1.mp4,"a ball rolls, then stops",A

Format: KwaiVGI/VideoAlign, datasets/train/README.md and eval_videogen_rewardbench.py.
"""

import math
from pathlib import Path

from vidpref.csv_text import read_csv
from vidpref.datasets.preferences.collecting import Collector
from vidpref.datasets.preferences.frames import OVERALL, Preferences

DIMENSIONS = {
    "VQ": "visual_quality",
    "MQ": "motion_quality",
    "TA": "text_alignment",
    "Overall": OVERALL,
    "winner": OVERALL,
}
LABELS = {"A": "A", "B": "B", "same": "tie", "tie": "tie", "invalid": "invalid"}
_NEEDED = ("path_A", "path_B", "prompt")
_OPTIONAL = ("fps_A", "num_frames_A", "fps_B", "num_frames_B", "A_model", "B_model")


def read_videoalign(path: Path) -> Preferences:
    """Reads a CSV file; the judges of its labels are not stated.

    Raises:
        ValueError: all of `read_csv`; both Overall and winner; an unknown label; a number that is
            none; and all of `Collector`. Names file and line.
    """
    columns, rows = read_csv(path, (*_NEEDED, tuple(DIMENSIONS)), _OPTIONAL)
    if "Overall" in columns and "winner" in columns:
        raise ValueError(f"{path}: Overall and winner are both the verdict on overall; remove one")
    collector = Collector(path.parent)
    for where, row in rows:
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


def _number(row: dict[str, str], column: str, where: str) -> float:
    text = row.get(column, "").strip()
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = -1.0
    if value <= 0 or math.isinf(value):
        raise ValueError(f"{where}: {column}={text!r} is not a positive number")
    return value
