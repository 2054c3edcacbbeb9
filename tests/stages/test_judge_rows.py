"""Rows of a reward model: sizes, labels and ratings of the right clips."""

import numpy as np
import pandas as pd
import pytest

from tests.language.reward_rows import DIMENSIONS, clip, tiny_reader
from tests.preference_tables import preferences
from vidpref.datasets.pipeline import training_batches
from vidpref.models.qwen_vl.reward import from_arrays
from vidpref.objectives.preference import Preference
from vidpref.stages.judge_rows import JudgeRows, SeenClips, compared, rated

A, B, TIE, INVALID = Preference
SIZES = {"x": (4, 16, 16), "y": (4, 16, 16), "z": (8, 16, 16), "w": (4, 8, 16)}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return tiny_reader(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def clips():
    records = [
        {"video": clip(t, 16, seed=i)[:, :h, :w], "fps": 2.0, "prompt": "a ball"}
        for i, (t, h, w) in enumerate(SIZES.values())
    ]
    index = pd.DataFrame(SIZES.values(), index=list(SIZES), columns=["frames", "height", "width"])
    return SeenClips(index.assign(prompt="a ball", record=range(len(SIZES))), records)


SAID = [
    ("x", "y", "visual_quality", "A"),
    ("x", "y", "text_alignment", "tie"),
    ("z", "x", "motion_quality", "tie"),
    ("x", "gone", "visual_quality", "A"),
]


def test_labels_of_clips_that_are_there(clips):
    pairs, labels = compared(preferences(SAID), clips, DIMENSIONS)
    assert pairs.tolist() == [[0, 1], [0, 2]]
    assert labels.tolist() == [[A, INVALID, TIE], [INVALID, TIE, INVALID]]
    pairs, labels = compared(preferences(SAID), clips, DIMENSIONS, decided=True)
    assert pairs.tolist() == [[0, 1]]


def test_ratings_of_compared_clips_or_of_any_two(clips):
    scores = [
        ("x", "visual_quality", 5.0),
        ("y", "visual_quality", 2.0),
        ("w", "text_alignment", 1),
    ]
    pairs, labels, ratings = rated(preferences(SAID, scores), clips, DIMENSIONS, 3.0)
    assert pairs.tolist() == [[0, 1], [0, 2]]
    np.testing.assert_array_equal(ratings[0], [[2, np.nan, np.nan], [-1, np.nan, np.nan]])
    pairs, labels, ratings = rated(preferences([], scores), clips, DIMENSIONS, 3.0)
    assert pairs.tolist() == [[3, 0], [1, 3]]  # three clips: the first is there twice
    assert (labels == INVALID).all()
    np.testing.assert_array_equal(ratings[1, 1], [np.nan, np.nan, -2])


def test_rows_have_one_shape_a_bucket(clips, reader):
    pairs = np.array([[0, 1], [1, 2], [0, 3]])
    labels = np.array([[A, B, TIE]] * 3)
    rows = JudgeRows(clips, reader, pairs, labels, np.zeros((3, 2, 3), np.float32), "bfloat16")
    assert sorted((r.tokens, r.frames, r.patches) for r in rows.rooms) == [
        (256, 2, 16),
        (256, 4, 16),
    ]
    assert rows.shapes[0] == rows.shapes[2] != rows.shapes[1]
    row = rows[2]
    assert row["patch_pixels"].shape == (2, 2, 16, 96)
    assert row["patch_pixels"].dtype.name == "bfloat16"
    assert row["patch_mask"].sum(axis=(1, 2)).tolist() == [2 * 16, 2 * 8]
    assert row["preference"].tolist() == [A, B, TIE]
    alone = reader.pack([reader.row(clips.record(3)["video"], 2.0, "a ball")], rows.rooms[0])
    found = from_arrays({name: values[1:] for name, values in row.items() if name != "preference"})
    np.testing.assert_array_equal(found.inputs.tokens, alone.inputs.tokens)
    np.testing.assert_array_equal(found.at, alone.at)
    batch = next(training_batches(rows, batch_size=2, seed=0, shapes=rows.shapes))
    assert batch["tokens"].shape == (2, 2, 256)
