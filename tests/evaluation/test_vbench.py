"""VBench's formulas, by hand and as its code has them."""

import numpy as np
import pytest

from vidpref.evaluation.vbench_dimensions import (
    consistency,
    dynamic_frames,
    is_dynamic,
    temporal_flickering,
)
from vidpref.evaluation.vbench_scores import DIMENSIONS, QUALITY, normalised, vbench_scores


def test_flickering_of_black_and_white():
    frames = np.zeros((4, 2, 3, 3), np.uint8)
    assert temporal_flickering(frames) == 1.0
    frames[1::2] = 255
    assert temporal_flickering(frames) == 0.0
    frames[:] = np.array([10, 13, 13, 4], np.uint8)[:, None, None, None]  # by 3, 0, 9
    assert temporal_flickering(frames) == pytest.approx(1 - 4 / 255, abs=1e-12)


def test_consistency_of_directions():
    angles = np.radians([0.0, 60.0, 180.0])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1.0], [5.0], [2.0]]
    # frame 1: (cos 60 + cos 60) / 2; frame 2: cos 120 and cos 180 are below 0
    assert consistency(features) == pytest.approx((0.5 + 0.0) / 2, abs=1e-12)
    assert consistency(np.ones((5, 3))) == pytest.approx(1.0, abs=1e-12)


def test_what_moves():
    assert list(dynamic_frames(9, 24.0)) == [0, 3, 6]
    assert list(dynamic_frames(4, 8.0)) == [0, 1, 2, 3]
    assert list(dynamic_frames(3, 3.0)) == [0, 1, 2]
    speeds = np.array([6.1] * 4 + [0.0] * 11)  # 16 frames: 4 pairs are needed
    assert is_dynamic(speeds, 256, 400)
    assert not is_dynamic(speeds, 400, 262)
    speeds[0] = 6.0
    assert not is_dynamic(speeds, 256, 256)
    assert is_dynamic(np.zeros(1), 256, 256)  # round(4 * 2 / 16) is 0


def test_a_single_frame_is_refused():
    for measure in (temporal_flickering, consistency):
        with pytest.raises(ValueError, match="one frame"):
            measure(np.ones((1, 2, 2, 3), np.uint8) if measure is temporal_flickering
                    else np.ones((1, 3)))  # fmt: skip
    with pytest.raises(ValueError, match="no direction"):
        consistency(np.zeros((2, 3)))


def test_the_scales_end_at_0_and_1():
    for name, scale in DIMENSIONS.items():
        assert normalised(name, scale.low) == 0.0
        assert normalised(name, scale.high) == 1.0
    with pytest.raises(ValueError, match="no dimension 'colour'"):
        normalised("colour", 0.5)


def test_total_of_a_leaderboard():
    """By hand: every dimension at 0.5 of its scale, but dynamic degree at 1 and one at 0."""
    values = {name: (s.low + s.high) / 2 for name, s in DIMENSIONS.items()}
    values |= {"dynamic_degree": 1.0, "scene": 0.0}
    found = vbench_scores(values)
    assert found.quality == pytest.approx((6 * 0.5 + 0.5 * 1.0) / 6.5)
    assert found.semantic == pytest.approx(8 * 0.5 / 9)
    assert found.total == pytest.approx((4 * found.quality + found.semantic) / 5)
    assert found.missing == ()


def test_published_numbers_of_a_model():
    """A row of VBench's leaderboard, quoted from memory and not looked up: that its three averages
    come out of its sixteen values says that all scales and weights are right."""
    percent = {
        "subject_consistency": 96.85, "background_consistency": 98.22, "temporal_flickering": 98.41,
        "motion_smoothness": 97.73, "dynamic_degree": 42.50, "aesthetic_quality": 63.13,
        "imaging_quality": 67.22, "object_class": 92.55, "multiple_objects": 40.66,
        "human_action": 95.00, "color": 92.92, "spatial_relationship": 35.86, "scene": 55.29,
        "appearance_style": 25.13, "temporal_style": 25.84, "overall_consistency": 28.23,
    }  # fmt: skip
    found = vbench_scores({name: value / 100 for name, value in percent.items()})
    scores = [round(100 * x, 2) for x in (found.quality, found.semantic, found.total)]
    assert scores == pytest.approx([82.20, 73.42, 80.44], abs=0.02)


def test_what_is_missing_is_said_and_not_taken_for_0():
    found = vbench_scores(dict.fromkeys(QUALITY, 0.9))
    assert found.quality is not None
    assert (found.semantic, found.total) == (None, None)
    assert len(found.missing) == 9
    assert vbench_scores({"scene": 0.3}).quality is None
    with pytest.raises(ValueError, match="no dimension colour"):
        vbench_scores({"colour": 0.3})
