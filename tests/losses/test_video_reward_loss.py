"""The loss of video pairs against torch, with a network whose scores are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid, mse_loss

from vidpref.losses.video_reward import VideoRewardLoss
from vidpref.objectives.preference import Preference
from vidpref.training.tuning import Everything

A, B, TIE, INVALID = Preference
ROWS, DIMS = 6, ("visual_quality", "text_alignment")
LABELS = np.array([[A, B], [B, TIE], [INVALID, A], [TIE, B], [A, INVALID], [B, A]], np.int32)


class Brightness(nn.Module):
    """Scores a row by the means of its pixels in the first and in the second frame."""

    @nn.compact
    def __call__(self, rows):
        weight = self.param("weight", nn.initializers.ones, (2,))
        return rows.inputs.patches.pixels.mean(axis=(2, 3)) * weight[None]


def draw_batch(**more):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, (ROWS, 2, 5)).astype(np.int32)
    pixels = rng.normal(size=(ROWS, 2, 2, 3, 4)).astype(np.float32)
    rating = rng.uniform(-2, 2, (ROWS, 2, 2)).astype(np.float32)
    rating[1, 0] = rating[4, 1, 1] = np.nan
    rest = ("mask", "positions", "features", "at", "patch_mask", "patch_at", "patch_grid")
    return {
        **dict.fromkeys(rest, tokens),
        "tokens": tokens,
        "patch_pixels": pixels,
        "preference": LABELS,
        "rating": rating,
        **more,
    }


def term(kind, a, b, label):
    """VideoAlign's loss of one label in torch; None where it is masked."""
    log_k = float(np.log(5.0))
    sign = {A: 1.0, B: -1.0}.get(label)
    if label == INVALID or (kind == "bt" and sign is None):
        return None
    if kind == "bt":
        return -logsigmoid(sign * (a - b))
    if sign is not None:
        return -logsigmoid(sign * (a - b) - log_k)
    return -logsigmoid(a - b - log_k) - logsigmoid(b - a - log_k) - float(np.log(24.0))


@pytest.mark.parametrize("masks", ["valid", "official"])
@pytest.mark.parametrize("kind", ["bt", "btt", "regression"])
def test_loss_and_gradient_equal_torch(kind, masks):
    weight = np.float32([1, 1, 1, 1, 1, 0])
    batch = draw_batch(weight=weight)
    loss_fn = VideoRewardLoss(
        Brightness(), Everything(lambda key: {}), DIMS, kind, theta=5.0, masks=masks
    )
    params = {"weight": jnp.float32([0.7, -1.3])}
    (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
        params, {}, batch, jax.random.key(0)
    )

    own = torch.tensor([0.7, -1.3], requires_grad=True)
    scores = torch.tensor(batch["patch_pixels"].mean(axis=(3, 4))) * own
    rows = range(ROWS - 1)  # the last is padding
    if kind == "regression":
        rated = torch.tensor(~np.isnan(batch["rating"]))
        rated[-1] = False
        expected = mse_loss(scores[rated], torch.tensor(batch["rating"])[rated], reduction="sum")
        number, size = int(rated.sum()), rated.numel()
    else:
        terms = [
            term(kind, scores[i, 0, d], scores[i, 1, d], LABELS[i, d]) for i in rows for d in (0, 1)
        ]
        terms = [t for t in terms if t is not None]
        expected, number, size = sum(terms), len(terms), LABELS.size
    expected = expected / (number if masks == "valid" else size)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient["weight"], own.grad, rtol=1e-5)
    counted = number if masks == "valid" else size
    assert loss_fn.counts(batch)["loss"] == counted
    assert metrics["accuracy"] == np.mean([metrics[f"accuracy/{dim}"] for dim in DIMS])
    assert (f"absolute_error/{DIMS[0]}" in metrics) == (kind == "regression")


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"kind": "bt2"}, {}, "kind='bt2' is unknown; known are bt, btt, regression"),
        ({"masks": "all"}, {}, "masks='all' is unknown"),
        ({}, {"preference": LABELS[:, :1]}, r"a pair has 2 videos and 2 labels .* labels \(6, 1\)"),
        ({"kind": "regression"}, {"rating": None}, "the batch has none"),
    ],
)
def test_what_does_not_fit_is_named(settings, change, message):
    batch = {k: v for k, v in draw_batch(**change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        VideoRewardLoss(Brightness(), Everything(lambda key: {}), DIMS, **settings)(
            {}, {}, batch, jax.random.key(0)
        )
