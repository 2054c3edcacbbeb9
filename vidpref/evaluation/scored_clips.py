"""A judge's scores of single clips beside those that people gave."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import pandas as pd

from vidpref.evaluation.correlation import Correlation, correlation
from vidpref.evaluation.judged_pairs import NO_SCORES, matched, numbers_of


@dataclasses.dataclass(frozen=True)
class ScoreAgreement:
    """How a judge's scores go with people's in one dimension.

    Attributes:
        dimension: that people scored.
        columns: the judge's dimensions whose mean stands for it.
        clips: that both scored.
        unscored: further clips that people scored and the judge did not.
        correlation: over these clips, of the mean over people.
    """

    dimension: str
    columns: tuple[str, ...]
    clips: int
    unscored: int
    correlation: Correlation


def score_agreement(
    people: pd.DataFrame, scores: pd.DataFrame, match: Mapping[str, Sequence[str]] | None = None
) -> list[ScoreAgreement]:
    """Returns the correlation in each dimension that people and the judge scored.

    Args:
        people: scores of clips, as `Preferences` has them.
        scores: a judge's, as of `judged_by_scores`.
        match: as of `judged_by_scores`, of the dimensions that people scored.

    Raises:
        ValueError: no dimension in common, or an unknown one in `match`.
    """
    columns = [name for name in scores if name not in NO_SCORES]
    dimensions = list(people["dimension"].unique())
    table = scores.assign(clip=[os.path.normpath(str(name)) for name in scores["clip"]])
    table = table.drop_duplicates("clip").set_index("clip")
    found = []
    for dimension, names in matched(dimensions, columns, match or {}).items():
        theirs = people[people["dimension"] == dimension].groupby("clip")["score"].mean()
        ours = pd.concat([numbers_of(table[name]) for name in names], axis=1).mean(
            axis=1, skipna=False
        )
        both = pd.concat([ours.reindex(theirs.index), theirs], axis=1).dropna().to_numpy()
        measured = correlation(both[:, 0], both[:, 1])
        unscored = len(theirs) - len(both)
        found.append(ScoreAgreement(dimension, tuple(names), len(both), unscored, measured))
    return found
