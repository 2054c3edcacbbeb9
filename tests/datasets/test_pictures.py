"""Pictures of frames lose nothing."""

import io

import av
import numpy as np

from vidpref.datasets.pictures import encode_png, enlarge


def test_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    with av.open(io.BytesIO(encode_png(image)), format="png_pipe") as file:
        decoded = next(file.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(decoded, image)


def test_enlarge_repeats_pixels():
    clip = np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)
    large = enlarge(clip, min_side=7)
    assert large.shape == (2, 9, 15, 3)
    np.testing.assert_array_equal(large[:, 1::3, 2::3], clip)
    np.testing.assert_array_equal(enlarge(clip, min_side=3), clip)
