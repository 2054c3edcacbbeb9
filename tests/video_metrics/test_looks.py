"""Frames as public metrics see them, against their code in PyTorch."""

import math

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidpref.interop.vision_encoders import IMAGENET
from vidpref.video_metrics.looks import Look, at_most, middle_square, whole_square

SIZES = [(40, 64), (64, 41), (57, 57), (20, 31)]


def frames(h, w):
    """Smooth ones: where a value lies between two bytes, roundings may go either way."""
    y, x = np.mgrid[:h, :w]
    waves = [127 + 120 * np.sin(x / (3 + c) + y / (5 - c)) for c in range(3)]
    return np.stack([np.stack(waves, -1), np.stack(waves[::-1], -1)]).astype(np.uint8)


def tensor(frames):
    return torch.from_numpy(frames.transpose(0, 3, 1, 2))


def as_torchvision(shown, side, mode, crop):
    """Resize of a byte tensor, CenterCrop, / 255 and Normalize."""
    h, w = shown.shape[2:]
    long = int(side * max(h, w) / min(h, w))
    size = (side, long) if w > h else (long, side)
    x = F.interpolate(shown.float(), size=size, mode=mode, align_corners=False)
    x = x.round().clamp(0, 255)
    if crop:
        top, left = (int(round((n - side) / 2.0)) for n in size)  # noqa: RUF046
        x = x[:, :, top : top + side, left : left + side]
    mean, std = (torch.tensor(IMAGENET[name]).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    return (x / 255 - mean) / std


@pytest.mark.parametrize(("method", "mode"), [("linear", "bilinear"), ("cubic", "bicubic")])
@pytest.mark.parametrize(("h", "w"), SIZES)
@pytest.mark.parametrize("crop", [True, False])
def test_vbench(h, w, method, mode, crop):
    shown = frames(h, w)
    wanted = as_torchvision(tensor(shown), 32, mode, crop).numpy().transpose(0, 2, 3, 1)
    with jax.default_matmul_precision("float32"):
        ours = np.asarray(Look(32, method, crop, **IMAGENET)(shown))
    assert ours.shape == wanted.shape
    apart = np.abs(ours - wanted)
    assert np.mean(apart > 1e-4) < 2e-3  # bytes that are rounded the other way
    assert apart.max() < 1.01 / 255 / min(IMAGENET["std"])


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_fvd_of_stylegan_v(h, w):
    """`preprocess_single` of its FVD."""
    shown, side = frames(h, w), 48
    scale = side / min(h, w)
    size = (side, math.ceil(w * scale)) if h < w else (math.ceil(h * scale), side)
    x = F.interpolate(tensor(shown).float() / 255, size=size, mode="bilinear")
    left, top = (x.shape[3] - side) // 2, (x.shape[2] - side) // 2
    wanted = (x[:, :, top : top + side, left : left + side] - 0.5) * 2
    with jax.default_matmul_precision("float32"):
        ours = middle_square(shown[None], side)[0]
    np.testing.assert_allclose(ours, wanted.numpy().transpose(0, 2, 3, 1), atol=2e-5)


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_fid_of_pytorch_fid(h, w):
    shown = frames(h, w)
    x = F.interpolate(tensor(shown).float() / 255, size=(75, 75), mode="bilinear")
    with jax.default_matmul_precision("float32"):
        ours = whole_square(shown, 75)
    np.testing.assert_allclose(ours, (2 * x - 1).numpy().transpose(0, 2, 3, 1), atol=2e-5)


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_musiq_sees_at_most_so_many_pixels(h, w):
    shown = frames(h, w)
    scale = 48.0 / max(h, w)
    x = tensor(shown).float()
    if max(h, w) > 48:
        x = F.interpolate(x, size=(int(scale * h), int(scale * w)), mode="bilinear")
    with jax.default_matmul_precision("float32"):
        ours = at_most(shown, 48)
    np.testing.assert_allclose(ours, (2 * x / 255 - 1).numpy().transpose(0, 2, 3, 1), atol=2e-5)
