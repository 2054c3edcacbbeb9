"""One label a pair and dimension."""

import pandas as pd

from tests.preference_tables import preferences
from vidpref.datasets.preferences.labels import clip_ratings, pair_labels
from vidpref.objectives.preference import Preference

A, B, TIE, INVALID = Preference
DIMENSIONS = ("look", "move")


def test_labels_of_several_verdicts_in_either_order():
    said = [
        ("x", "y", "look", "A"),
        ("y", "x", "look", "B"),  # the same
        ("x", "y", "move", "tie"),
        ("y", "x", "move", "A"),  # y is better
        ("z", "x", "look", "A"),
        ("x", "z", "look", "A"),  # contradicts
        ("x", "z", "move", "invalid"),
        ("u", "v", "look", "tie"),
        ("u", "v", "sound", "A"),  # nobody asked
        ("v", "w", "move", "invalid"),
    ]
    found = pair_labels(preferences(said), DIMENSIONS).set_index(["clip_a", "clip_b"])
    assert found[list(DIMENSIONS)].T.to_dict("list") == {
        ("u", "v"): [TIE, INVALID],
        ("x", "y"): [A, B],
    }
    assert found["prompt"].tolist() == ["a ball"] * 2
    reversed_ = pair_labels(preferences(said[::-1]), DIMENSIONS)
    pd.testing.assert_frame_equal(reversed_.set_index(["clip_a", "clip_b"]), found)


def test_no_label_at_all():
    assert pair_labels(preferences([]), DIMENSIONS).empty
    assert clip_ratings(preferences([]), DIMENSIONS).empty


def test_ratings_are_means_over_judges():
    scores = [("x", "look", 3.0), ("x", "look", 4.0), ("y", "move", 1.0), ("y", "sound", 9.0)]
    found = clip_ratings(preferences([], scores), DIMENSIONS)
    assert found.loc["x", "look"] == 3.5
    assert found.loc["y", "move"] == 1.0
    assert found.isna().sum().sum() == 2
