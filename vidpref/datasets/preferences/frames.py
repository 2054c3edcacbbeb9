"""The one form of preferences: clips, comparisons of two clips, and scores of one."""

import dataclasses

import pandas as pd

VERDICTS = ("A", "B", "tie", "invalid")
OVERALL = "overall"  # the dimension of a verdict that names none

CLIPS = {
    "id": "str",
    "path": "str",
    "prompt": "str",
    "source": "str",
    "fps": "float64",
    "frames": "float64",
}
COMPARISONS = {
    "clip_a": "str",
    "clip_b": "str",
    "prompt": "str",
    "dimension": "str",
    "verdict": "str",
    "judge": "str",
    "rationale": "str",
    "pair_score": "float64",
    "score_gap": "float64",
}
SCORES = {
    "clip": "str",
    "dimension": "str",
    "score": "float64",
    "judge": "str",
    "rationale": "str",
}


@dataclasses.dataclass(frozen=True)
class Preferences:
    """Clips and what was said about them, as the file says it; a verdict may stand twice.

    Attributes:
        clips: id (unique; the path below the data set's folder, or the whole path outside it),
            path (absolute), prompt (one line), source (what made it, "real" for real clips, ""
            where not stated), fps and frames (NaN where not stated).
        comparisons: clip_a, clip_b (ids), prompt (theirs), dimension, verdict (of `VERDICTS`),
            judge and rationale ("" where not stated), and VideoDPO's numbers of a pair: pair_score,
            a probability by which its loss may be weighted, and score_gap, the score of clip_a less
            that of clip_b (NaN where not stated).
        scores: clip (id), dimension, score, judge, rationale.
    """

    clips: pd.DataFrame
    comparisons: pd.DataFrame
    scores: pd.DataFrame
