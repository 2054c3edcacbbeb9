"""What a training row holds, from records that are numbered by their pixels."""

import numpy as np
import pytest

from vidpref.datasets.clip_rows import ClipRows, JoinedRecords
from vidpref.datasets.text import TextCache, WordTable


def record(number, prompt="a ball", **more):
    video = np.full((2, 4, 4, 3), number, np.uint8)
    video[1] += 100
    return {"prompt": prompt, "video": video, **more}


@pytest.fixture
def texts(tmp_path):
    return TextCache.build(tmp_path, WordTable(4, 8), ["a ball", "a cone"])


def test_joined_records_are_those_of_the_parts_in_their_order():
    one, two, three, four = ({"n": n} for n in range(4))
    joined = JoinedRecords([one, two], [], [three], [four])
    assert [joined[i]["n"] for i in range(len(joined))] == [0, 1, 2, 3]
    assert joined.starts == [0, 2, 2, 3, 4]


def test_a_row_has_its_clips_winner_first_and_the_condition_of_the_winner(texts):
    frame = np.full((4, 4, 3), 9, np.uint8)
    records = [record(0), record(1, "a cone", first_frame=frame), record(2, b"a cone")]
    motion = np.arange(8.0).reshape(2, 2, 2)
    rewards = np.array([[0.7, 0.1], [1.0, 0.0]])
    rows = ClipRows(records, np.array([[1, 0], [2, 1]]), rewards, texts, labels={"motion": motion})
    assert (len(rows), rows.k) == (2, 2)
    first, second = rows[0], rows[1]
    assert first["clips"][:, 0, 0, 0, 0].tolist() == [1, 0]
    assert second["clips"][:, 0, 0, 0, 0].tolist() == [2, 1]
    np.testing.assert_array_equal(first["first_frame"], frame)
    np.testing.assert_array_equal(second["first_frame"], records[2]["video"][0])
    np.testing.assert_array_equal(first["text"], texts["a cone"][0])
    np.testing.assert_array_equal(first["text_mask"], texts["a cone"][1])
    np.testing.assert_allclose(first["reward"], [0.7, 0.1])
    np.testing.assert_array_equal(second["motion"], motion[1])
    assert set(first) == {"clips", "first_frame", "text", "text_mask", "reward", "motion"}
