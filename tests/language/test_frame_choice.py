"""Which frames are seen, against the processors of transformers and PyTorch's own numbers."""

import types

import numpy as np
import pytest
import torch

from tests.language import video_processors
from vidpref.language.frame_choice import choose_frames, frames_per_second, pair_times

VIDEOS = [(count, fps) for count in range(4, 130) for fps in (7.5, 16.0, 24.0)]
VIDEOS += [(count, 30.0) for count in range(130, 2000, 37)]


def _theirs(processor, count: int, fps: float) -> np.ndarray:
    settings = {"min_frames": 4, "max_frames": 768, "num_frames": None, "temporal_patch_size": 2}
    own = types.SimpleNamespace(fps=2, **settings)
    metadata = types.SimpleNamespace(total_num_frames=count, fps=fps)
    return np.asarray(processor.sample_frames(own, metadata, fps=2))


@pytest.mark.parametrize(
    ("rule", "processor"),
    [
        ("qwen2_vl", video_processors.qwen2_vl.Qwen2VLVideoProcessor),
        ("qwen3_vl", video_processors.qwen3_vl.Qwen3VLVideoProcessor),
    ],
)
def test_equals_the_processors_of_transformers(rule, processor):
    for count, fps in VIDEOS:
        ours = choose_frames(count, fps, rule)
        np.testing.assert_array_equal(ours, _theirs(processor, count, fps), f"{count} at {fps}")


def test_videoreward_rounds_as_torch_linspace():
    for count, fps in VIDEOS:
        ours = choose_frames(count, fps, "videoreward")
        expected = torch.linspace(0, count - 1, len(ours)).round().long().numpy()
        np.testing.assert_array_equal(ours, expected, f"{count} at {fps}")
        assert len(ours) % 2 == 0


@pytest.mark.parametrize(
    ("rule", "long", "short"),
    [
        ("qwen2_vl", [0, 8, 16, 24, 32, 40, 48, 56, 64, 72], [0, 6, 12, 18]),
        ("qwen3_vl", [0, 9, 18, 27, 36, 44, 53, 62, 71, 80], [0, 8, 15, 23]),
        ("videoreward", [0, 9, 18, 27, 36, 44, 53, 62, 71, 80], [0, 8, 15, 23]),
        ("unified_reward", [0, 11, 22, 34, 45, 57, 68, 80], [0, 3, 6, 9, 13, 16, 19, 23]),
    ],
)
def test_two_videos_by_every_rule(rule, long, short):
    assert choose_frames(81, 16.0, rule).tolist() == long
    assert choose_frames(24, 24.0, rule).tolist() == short


def test_short_videos_of_videoreward():
    assert [len(choose_frames(n, 8.0, "videoreward")) for n in (2, 3, 4, 5)] == [2, 2, 4, 4]
    # 9 / 2 frames are wanted, and 2.25 pairs are 2; 6 would be 3
    assert len(choose_frames(18, 8.0, "videoreward")) == 4
    assert len(choose_frames(22, 8.0, "videoreward")) == 6


def test_times_and_rates():
    assert pair_times(np.array([0, 8, 15]), 10.0) == [0.4, 1.5]
    assert frames_per_second(10, 81, 16.0) == pytest.approx(1.9753, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 8.0, "videoreward"), "1 frame has no two"),
        ((9, 0.0, "videoreward"), r"0\.0 frames a second"),
        ((9, float("nan"), "qwen3_vl"), "its rate must be known"),
        ((9, 8.0, "qwen3vl"), "'qwen3vl' chooses no frames; .*qwen3_vl"),
    ],
)
def test_bad_videos_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose_frames(*arguments)
