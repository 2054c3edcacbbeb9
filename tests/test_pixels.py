"""Bytes and numbers; values that are no numbers are counted and refused, not stored as black."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.pixels import check_finite, clip_to_unit, not_finite, to_bytes, to_unit


def test_all_bytes_survive_the_way_there_and_back():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_bytes(to_unit(pixels)), pixels)
    np.testing.assert_array_equal(to_unit(np.uint8([0, 255])), [-1.0, 1.0])


def test_clipping_keeps_what_is_no_number_visible():
    values = np.float32([-2.0, -0.5, 1.5, np.inf, -np.inf, np.nan])
    found = jax.jit(clip_to_unit)(values)
    np.testing.assert_array_equal(found, np.float32([-1.0, -0.5, 1.0, np.nan, np.nan, np.nan]))


def test_clips_that_are_not_finite_are_counted_and_named():
    clips = np.zeros((8, 2, 3, 3, 1), np.float32)
    clips[1, 0, 0, 0, 0], clips[6, :, 0, 0, 0] = np.nan, np.inf
    counts = np.asarray(not_finite(jnp.asarray(clips)))
    np.testing.assert_array_equal(counts, [0, 1, 0, 0, 0, 0, 2, 0])
    names = [f"OR-3/{i}" for i in range(8)]
    check_finite(counts * 0, names, "sampling")
    with pytest.raises(ValueError, match=r"sampling: 2 of 8 clips .* OR-3/1 \(1 values\), OR-3/6"):
        check_finite(counts, names, "sampling")
    with pytest.raises(ValueError, match=r"8 of 8 clips .* and 3 more"):
        check_finite(counts + 1, names, "sampling")
