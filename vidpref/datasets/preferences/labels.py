"""One label a pair and dimension, of preferences of any layout: what a reward model learns from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vidpref.datasets.preferences.frames import Preferences
from vidpref.objectives.preference import Preference

_SIGNS = {"A": 1.0, "B": -1.0, "tie": 0.0}


def pair_labels(preferences: Preferences, dimensions: Sequence[str]) -> pd.DataFrame:
    """Returns a row a pair of clips: clip_a, clip_b, prompt, and a column a dimension.

    Of several verdicts on a pair in a dimension one of A or B outweighs ties. Where one said A and
    another B the label is INVALID, as it is where nobody said anything or all said "invalid". Pairs
    without any other label are left out. Which clip of a pair is A follows the clips' ids, so that
    the result does not depend on the order of the file.

    Args:
        preferences: clips and comparisons.
        dimensions: the columns.
    """
    said = preferences.comparisons[preferences.comparisons["dimension"].isin(dimensions)]
    said = said[said["verdict"].isin(_SIGNS)]
    swap = (said["clip_a"] > said["clip_b"]).to_numpy()
    sign = said["verdict"].map(_SIGNS).to_numpy(np.float64) * np.where(swap, -1.0, 1.0)
    named = pd.DataFrame(
        {
            "clip_a": np.where(swap, said["clip_b"], said["clip_a"]),
            "clip_b": np.where(swap, said["clip_a"], said["clip_b"]),
            "prompt": said["prompt"].to_numpy(),
            "dimension": said["dimension"].to_numpy(),
            "sign": sign,
        }
    )
    keys = ["clip_a", "clip_b", "prompt"]
    groups = named.groupby([*keys, "dimension"])["sign"]
    label = np.sign(groups.mean()).map({1.0: Preference.A, -1.0: Preference.B, 0.0: Preference.TIE})
    label[(groups.max() > 0) & (groups.min() < 0)] = Preference.INVALID
    found = label.unstack("dimension").reindex(columns=list(dimensions))
    found = found.fillna(int(Preference.INVALID)).astype(np.int32)
    return found[(found != Preference.INVALID).any(axis=1)].reset_index()


def clip_ratings(preferences: Preferences, dimensions: Sequence[str]) -> pd.DataFrame:
    """Returns the ratings of clips by id, a column a dimension: means over judges, NaN for none."""
    scores = preferences.scores[preferences.scores["dimension"].isin(dimensions)]
    means = scores.groupby(["clip", "dimension"])["score"].mean().unstack("dimension")
    return means.reindex(columns=list(dimensions)).astype(np.float32)
