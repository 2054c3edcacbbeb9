"""How far apart the clips of a pair are, where the data set says more than who won."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vidpref.datasets.preferences.frames import Preferences


def stated_gaps(
    preferences: Preferences, pairs: pd.DataFrame, weights: Mapping[str, float | int]
) -> np.ndarray:
    """Returns the score of each winner less that of its loser [n]; NaN where none is stated.

    A gap that a comparison states (`score_gap`, VideoDPO's) goes before the difference of the
    clips' own scores. Both are means over judges, summed over the dimensions with their weights;
    a pair needs them in all of these. A gap below 0 contradicts the verdict.

    Args:
        preferences: preferences of any layout.
        pairs: winner and loser (ids) of n pairs, none of them twice.
        weights: weights of the dimensions that count; 0 leaves one out.
    """
    kept = pd.Series({name: weight for name, weight in weights.items() if weight}, dtype="float64")
    by_file = _stated(preferences.comparisons, pairs, "score_gap", kept)
    scores = preferences.scores[preferences.scores["dimension"].isin(kept.index)]
    means = scores.groupby(["clip", "dimension"])["score"].mean().unstack("dimension")
    value = means.reindex(columns=kept.index) @ kept  # NaN without a score in every dimension
    by_scores = value.reindex(pairs["winner"]).to_numpy() - value.reindex(pairs["loser"]).to_numpy()
    return np.where(np.isnan(by_file), by_scores, by_file)


def pair_probabilities(
    preferences: Preferences, pairs: pd.DataFrame, weights: Mapping[str, float | int]
) -> np.ndarray:
    """Returns the `pair_score` of each pair [n], the mean over judges and dimensions; or NaN.

    Args:
        preferences, pairs, weights: see `stated_gaps`.
    """
    kept = [name for name, weight in weights.items() if weight]
    found = _of_pairs(preferences.comparisons, pairs, "pair_score", kept)
    return found.groupby("row")["value"].mean().reindex(range(len(pairs))).to_numpy()


def _stated(
    comparisons: pd.DataFrame, pairs: pd.DataFrame, column: str, weights: pd.Series
) -> np.ndarray:
    found = _of_pairs(comparisons, pairs, column, weights.index)
    signed = found.assign(value=found["value"] * found["sign"])
    means = signed.groupby(["row", "dimension"])["value"].mean().unstack("dimension")
    means = means.reindex(index=range(len(pairs)), columns=weights.index)
    return (means @ weights).to_numpy(np.float64)


def _of_pairs(
    comparisons: pd.DataFrame, pairs: pd.DataFrame, column: str, dimensions: "pd.Index | list[str]"
) -> pd.DataFrame:
    """What `column` says: row of the pair, dimension, value, and sign: -1 where B is the winner."""
    said = comparisons[comparisons["dimension"].isin(dimensions)].dropna(subset=column)
    said = said[["clip_a", "clip_b", "dimension", column]].rename(columns={column: "value"})
    numbered = pairs[["winner", "loser"]].reset_index(drop=True)
    numbered["row"] = numbered.index
    parts = [
        said.rename(columns={"clip_a": first, "clip_b": second})
        .merge(numbered, on=["winner", "loser"])
        .assign(sign=sign)
        for first, second, sign in (("winner", "loser", 1.0), ("loser", "winner", -1.0))
    ]
    return pd.concat(parts, ignore_index=True)
