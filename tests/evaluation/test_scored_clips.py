import numpy as np
import pandas as pd
import pytest

from vidpref.evaluation.scored_clips import score_agreement


def people(*rows):
    return pd.DataFrame(rows, columns=["clip", "dimension", "score"])


def test_means_over_people_against_the_judge():
    given = people(
        ("a", "look", 1.0), ("a", "look", 3.0), ("b", "look", 4.0), ("c", "look", 1.0),
        ("d", "look", 5.0), ("a", "sound", 1.0),
    )  # fmt: skip
    scores = pd.DataFrame({"clip": ["c", "./b", "a"], "look": ["0.5", "2", "1.5"]})
    (found,) = score_agreement(given, scores)
    assert (found.dimension, found.clips, found.unscored) == ("look", 3, 1)
    expected = np.corrcoef([1.5, 2.0, 0.5], [2.0, 4.0, 1.0])[0, 1]
    assert found.correlation.pearson == pytest.approx(expected, abs=1e-12)
    assert found.correlation.spearman == pytest.approx(1.0, abs=1e-12)


def test_a_mean_stands_for_a_dimension():
    given = people(*((name, "overall", float(i)) for i, name in enumerate("abc")))
    scores = pd.DataFrame({"clip": [*"abc"], "x": [1.0, 0.0, 2.0], "y": [0.0, 2.0, 2.0]})
    (found,) = score_agreement(given, scores, {"overall": ["x", "y"]})
    assert found.columns == ("x", "y")
    assert found.correlation.spearman == pytest.approx(1.0, abs=1e-12)  # 0.5, 1, 2
    with pytest.raises(ValueError, match="the judge has no 'z'"):
        score_agreement(given, scores, {"overall": ["z"]})
