"""What CLIP sees of frames: bit for bit that of transformers, and HPSv2's frames on black."""

import json

import numpy as np
import pytest

from tests.interop.tiny_clip import processor
from vidpref.interop.image_processor import ImageProcessor, read_processor


def frames(h, w, count=2):
    return np.random.default_rng(h + w).integers(0, 256, (count, h, w, 3), np.uint8)


@pytest.mark.parametrize(
    ("h", "w", "side"), [(16, 16, 28), (24, 41, 28), (192, 320, 224), (97, 64, 63), (28, 28, 28)]
)
def test_frames_are_those_of_transformers_bit_for_bit(h, w, side, tmp_path):
    theirs = processor(side)
    theirs.save_pretrained(tmp_path)
    shown = frames(h, w)
    wanted = np.stack(theirs(list(shown))["pixel_values"]).transpose(0, 2, 3, 1)
    ours = read_processor(tmp_path, ImageProcessor(side))(shown)
    assert ours.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(ours, wanted)
    assert read_processor(tmp_path / "none", ImageProcessor(side)) == ImageProcessor(side)


@pytest.mark.parametrize(
    ("h", "w", "top", "left"), [(12, 24, 7, 0), (24, 11, 0, 7), (28, 28, 0, 0)]
)
def test_hpsv2_sees_the_whole_frame_on_black(h, w, top, left):
    white = np.full((1, h, w, 3), 255, np.uint8)
    shown = ImageProcessor(28, "pad", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(white)[0]
    inside = np.zeros((28, 28), bool)
    inside[top : top + round(h * 28 / max(h, w)), left : left + round(w * 28 / max(h, w))] = True
    np.testing.assert_array_equal(shown, np.repeat(inside[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resample": 2}, "resample=2"),
        ({"do_center_crop": False}, "do_center_crop=False"),
        ({"crop_size": 32}, "crop_size=32, and the network sees 28x28 pixels"),
        ({"size": {"shortest_edge": 32}}, "size={'shortest_edge': 32}, and the network sees"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean=\[0\.5, 0\.5\]"),
    ],
)
def test_processors_of_something_else_are_refused(fields, message, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=f"preprocessor_config.json is not .* {message}"):
        read_processor(tmp_path, ImageProcessor(28))
