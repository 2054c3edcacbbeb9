"""Which clips of a data set count as real, and which of them are taken."""

import numpy as np
import pytest

from tests.stages.numbered_clips import PROMPTS, pixels, real_record
from vidpref.datasets.scenes import Data


def data(records):
    return Data(records, (), PROMPTS)


def test_defects_and_other_splits_are_left_out():
    records = [
        real_record(0),
        real_record(1, defect=b"jump"),
        real_record(2, split=b"validation"),
        real_record(3, split=b"test"),
        real_record(4),
    ]
    found = data(records)
    scenes = found.real_scenes(0)
    assert found.real_clips(0) == [0, 4]
    assert [scene.id for scene in scenes] == ["real-0", "real-4"]
    assert (scenes[1].text, scenes[1].category, scenes[1].split) == ("a cone", "DM", "train")
    np.testing.assert_array_equal(scenes[1].first_frame, pixels(4)[0])


def test_records_without_defects_splits_and_first_frames_all_count():
    records = [{"prompt": "a ball", "video": pixels(n)} for n in range(3)]
    found = data(records)
    scenes = found.real_scenes(0)
    assert found.real_clips(0) == [0, 1, 2]
    np.testing.assert_array_equal(scenes[2].first_frame, pixels(2)[0])


def test_a_part_is_spread_over_the_data_set_and_always_the_same():
    records = [real_record(n % 250, defect=b"jump" if n % 4 == 0 else b"") for n in range(1000)]
    indices = data(records).real_clips(200)
    assert len(indices) == len(set(indices)) == 200
    assert all(index % 4 for index in indices)
    # a quarter of them in each quarter: a standard deviation is 0.03
    parts = np.bincount(np.array(indices) // 250, minlength=4) / 200
    np.testing.assert_allclose(parts, 0.25, atol=0.1)
    assert indices == data(records).real_clips(200)
    assert indices[:50] == data(records).real_clips(50)


def test_more_than_there_are_is_refused():
    records = [real_record(0), real_record(1, defect=b"jump"), real_record(2)]
    with pytest.raises(ValueError, match="3 real clips wanted, the data has 2 without a defect"):
        data(records).real_clips(3)
    with pytest.raises(ValueError, match="all real clips wanted, the data has 0"):
        data(records[1:2]).real_clips(0)
