"""Resizing against PyTorch's `interpolate`."""

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidpref.models.interpolation import resize, weights

NAMES = {"linear": "bilinear", "cubic": "bicubic"}


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize(
    ("h", "w", "height", "width"), [(7, 5, 16, 16), (40, 61, 13, 20), (8, 8, 8, 11), (3, 1, 9, 4)]
)
def test_images_are_those_of_pytorch(method, h, w, height, width):
    images = np.random.default_rng(0).uniform(0, 255, (2, h, w, 3)).astype(np.float32)
    wanted = F.interpolate(
        torch.from_numpy(images.transpose(0, 3, 1, 2)),
        size=(height, width),
        mode=NAMES[method],
        align_corners=False,
    )
    with jax.default_matmul_precision("float32"):
        ours = resize(images, height, width, method)
    np.testing.assert_allclose(ours, wanted.numpy().transpose(0, 2, 3, 1), atol=2e-3)


def test_a_scale_counts_where_it_is_given():
    """DINO resizes its positions by a scale that is a tenth of a patch off."""
    x = np.random.default_rng(1).standard_normal((1, 2, 14, 14)).astype(np.float32)
    scale = (10.1 / 14, 21.1 / 14)
    wanted = F.interpolate(torch.from_numpy(x), scale_factor=scale, mode="bicubic")
    assert wanted.shape[2:] == (10, 21)
    rows, columns = weights(14, 10, "cubic", scale[0]), weights(14, 21, "cubic", scale[1])
    ours = np.einsum("yh,bchw,xw->bcyx", rows, x, columns)
    np.testing.assert_allclose(ours, wanted.numpy(), atol=1e-5)


def test_weights_of_a_point_add_up_to_one():
    for method in NAMES:
        np.testing.assert_allclose(weights(30, 7, method).sum(axis=1), 1.0, atol=1e-6)
    with pytest.raises(ValueError, match="method='box': known are linear, cubic"):
        weights(3, 4, "box")
