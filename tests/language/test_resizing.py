"""Sizes and resizers against transformers and PyTorch."""

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from tests.language.video_processors import qwen3_vl
from vidpref.language.resizing import PixelBudget, bicubic, resize

SIDES = [1, 5, 13, 14, 27, 28, 29, 42, 70, 100, 127, 256, 320, 480, 719, 832, 1280, 4000]
BUDGETS = [(28, 56 * 56, 14 * 14 * 4 * 1280), (28, 100_352, 200_704), (32, 65_536, 16_777_216)]


def outcome(call):
    try:
        return call()
    except ValueError:
        return "refused"


def _of_video(t, h, w, budget):
    factor, least, most = budget
    return qwen3_vl.smart_resize(t, h, w, 2, factor, least, most)


@pytest.mark.parametrize("budget", BUDGETS)
def test_sizes_of_frames_are_those_of_transformers(budget):
    ours = PixelBudget(*budget)
    for h in SIDES:
        for w in SIDES:
            expected = outcome(lambda h=h, w=w: smart_resize(h, w, *budget))
            assert outcome(lambda h=h, w=w: ours.size(1, h, w)) == expected, (h, w)


@pytest.mark.parametrize("budget", [(32, 131_072, 786_432), (32, 4096, 25_165_824)])
def test_sizes_of_videos_are_those_of_qwen3_vl(budget):
    ours = PixelBudget(*budget, whole_video=True)
    for t in (1, 2, 3, 5, 10, 101):
        for h in SIDES:
            for w in SIDES[::3]:
                expected = outcome(lambda t=t, h=h, w=w: _of_video(t, h, w, budget))
                assert outcome(lambda t=t, h=h, w=w: ours.size(t, h, w)) == expected, (t, h, w)


@pytest.mark.parametrize(
    ("frames", "size", "expected", "tokens"),
    [
        (10, (480, 832), (336, 588), 1260),
        (10, (720, 1280), (336, 588), 1260),
        (12, (480, 720), (364, 532), 1482),
        (4, (64, 64), (336, 336), 288),
    ],
)
def test_sizes_that_videoreward_saw(frames, size, expected, tokens):
    budget = PixelBudget(28, 100_352, 200_704, one_factor_first=True)
    assert budget.size(frames, *size) == expected
    assert frames // 2 * expected[0] * expected[1] // 28**2 == tokens


def test_a_short_side_becomes_one_factor_before_the_budget_or_by_it():
    assert PixelBudget(28, 3136, 10**6).size(1, 10, 1000) == (28, 560)
    assert PixelBudget(28, 3136, 10**6, one_factor_first=True).size(1, 10, 1000) == (28, 1008)


@pytest.mark.parametrize("target", [(20, 50), (90, 30), (37, 61), (8, 9), (56, 84)])
def test_bicubic_is_that_of_torch(target):
    frames = np.random.default_rng(0).integers(0, 256, (2, 37, 61, 3)).astype(np.uint8)
    expected = torch.nn.functional.interpolate(
        torch.tensor(frames).permute(0, 3, 1, 2).float(),
        target,
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    ours = bicubic(frames, *target)
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1).numpy(), atol=2e-3)
    rounded = expected.clamp(0, 255).round().permute(0, 2, 3, 1).numpy()
    error = np.abs(resize(frames, *target, "float").astype(int) - rounded)
    assert error.max() <= 1
    assert (error > 0).mean() < 1e-3


def test_frames_of_the_right_size_are_left_alone():
    frames = np.random.default_rng(0).integers(0, 256, (2, 28, 56, 3)).astype(np.uint8)
    for resizer in ("pillow", "float"):
        np.testing.assert_array_equal(resize(frames, 28, 56, resizer), frames)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PixelBudget(28, 10, 5), "0 < least <= most"),
        (lambda: PixelBudget(28, 10, 5000).size(2, 3, 900), "200 times as long"),
        (lambda: PixelBudget(28, 10, 5000).size(0, 3, 9), "0 frames of 3x9 pixels"),
        (lambda: PixelBudget(28, 10, 500, whole_video=True).size(1, 9, 9), "give it as an image"),
        (lambda: resize(np.zeros((1, 4, 4, 3), np.uint8), 2, 2, "nearest"), "known are pillow"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
