"""Preferences as tables, of a few words a row."""

from collections.abc import Sequence

import pandas as pd

from vidpref.datasets.preferences.frames import CLIPS, COMPARISONS, SCORES, Preferences


def preferences(comparisons: Sequence[tuple], scores: Sequence[tuple] = ()) -> Preferences:
    """Returns preferences without a table of clips.

    Args:
        comparisons: (clip_a, clip_b, dimension, verdict) of each.
        scores: (clip, dimension, score) of each.
    """
    said = pd.DataFrame(comparisons, columns=["clip_a", "clip_b", "dimension", "verdict"])
    said = said.assign(prompt="a ball", judge="", rationale="", pair_score=1.0, score_gap=1.0)
    rated = pd.DataFrame(scores, columns=["clip", "dimension", "score"])
    rated = rated.assign(judge="", rationale="")
    clips = pd.DataFrame(columns=list(CLIPS))
    return Preferences(clips, said[list(COMPARISONS)], rated[list(SCORES)].astype(SCORES))
