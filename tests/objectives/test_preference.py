"""Losses and gradients against torch in float64, probabilities against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vidpref.objectives.preference import (
    Preference,
    bradley_terry,
    bradley_terry_ties,
    outcome_log_probabilities,
    pair_metrics,
    regression,
)

A, B, TIE, INVALID = Preference
THETA = 5.0
LABELS = np.array([[A, TIE, B], [B, INVALID, A], [TIE, A, A], [A, B, INVALID]], np.int32)
MASK = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1]], bool)
SCORES = np.random.default_rng(0).normal(scale=2.0, size=(2, 4, 3)).astype(np.float32)


def torch_loss(term):
    """Mean of `term(a, b, label)` over the labels for which it is not None; and its gradients."""
    a, b = (torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in SCORES)
    terms = [
        term(a[i, j], b[i, j], LABELS[i, j]) for i, j in np.ndindex(*LABELS.shape) if MASK[i, j]
    ]
    terms = [t for t in terms if t is not None]
    loss = sum(terms) / len(terms)
    loss.backward()
    return loss.item(), a.grad.numpy(), b.grad.numpy()


def torch_bradley_terry(a, b, label):
    if label not in (A, B):
        return None
    return -torch.log(torch.sigmoid(a - b if label == A else b - a))


def torch_bradley_terry_ties(a, b, label):
    a, b = a.exp(), b.exp()
    probabilities = {
        A: a / (a + THETA * b),
        B: b / (b + THETA * a),
        TIE: (THETA**2 - 1) * a * b / ((a + THETA * b) * (b + THETA * a)),
    }
    return -probabilities[label].log() if label in probabilities else None


@pytest.mark.parametrize(
    ("loss_fn", "hyper", "term"),
    [
        (bradley_terry, {}, torch_bradley_terry),
        (bradley_terry_ties, {"theta": THETA}, torch_bradley_terry_ties),
    ],
)
def test_loss_and_gradient_equal_torch(loss_fn, hyper, term):
    def loss(a, b):
        return loss_fn(a, b, LABELS, MASK, **hyper)[0]

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(*jnp.asarray(SCORES))
    expected, *expected_gradients = torch_loss(term)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for gradient, of_torch in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, of_torch, rtol=1e-4, atol=1e-7)
        assert (gradient[~MASK] == 0).all()


@pytest.mark.parametrize(
    ("loss_fn", "hyper", "counted"),
    [
        (bradley_terry, {}, [A, B]),
        (bradley_terry_ties, {"theta": THETA}, [A, B, TIE]),
    ],
)
def test_official_masks_keep_the_number_of_all_labels(loss_fn, hyper, counted):
    def loss(a, masks):
        return loss_fn(a, SCORES[1], LABELS, MASK, masks=masks, **hyper)[0]

    scale = (np.isin(LABELS, counted) & MASK).mean()
    ours, official = (
        jax.value_and_grad(loss)(jnp.asarray(SCORES[0]), masks) for masks in ("valid", "official")
    )
    np.testing.assert_allclose(official[0], scale * ours[0], rtol=1e-6)
    np.testing.assert_allclose(official[1], scale * ours[1], rtol=1e-5, atol=1e-8)
    with pytest.raises(ValueError, match="masks='none' is unknown"):
        loss(jnp.asarray(SCORES[0]), "none")


@pytest.mark.parametrize("theta", [1.01, 5.0, 100.0])
def test_three_outcomes_have_probability_one(theta):
    a = jnp.linspace(-12.0, 12.0, 25)[:, None]
    probabilities = jnp.exp(outcome_log_probabilities(a, jnp.zeros_like(a), theta=theta))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-5)
    # swapping the clips swaps the outcomes
    swapped = jnp.exp(outcome_log_probabilities(jnp.zeros_like(a), a, theta=theta))
    np.testing.assert_allclose(swapped[..., [1, 0, 2]], probabilities, rtol=1e-5)


def test_equal_scores():
    scores = jnp.ones((2, 1))
    labels = np.array([[A], [B]], np.int32)
    np.testing.assert_allclose(bradley_terry(scores, scores, labels)[0], np.log(2), rtol=1e-6)
    loss, _ = bradley_terry_ties(scores, scores, labels, theta=THETA)
    np.testing.assert_allclose(loss, np.log(1 + THETA), rtol=1e-6)
    ties = np.full((2, 1), TIE, np.int32)
    loss, _ = bradley_terry_ties(scores, scores, ties, theta=THETA)
    np.testing.assert_allclose(loss, -np.log((THETA - 1) / (THETA + 1)), rtol=1e-5)


def test_far_apart_scores_keep_a_finite_loss_and_gradient():
    a, b = jnp.array([[500.0]]), jnp.array([[-500.0]])
    labels = np.array([[B]], np.int32)
    losses = [bradley_terry, lambda *args: bradley_terry_ties(*args, theta=THETA)]
    for loss_fn in losses:
        value, gradient = jax.value_and_grad(lambda a: loss_fn(a, b, labels)[0])(a)  # noqa: B023
        np.testing.assert_allclose(value, 1000.0, rtol=0.002)
        np.testing.assert_allclose(gradient, 1.0)


def test_nothing_labelled_is_a_loss_of_zero_with_a_zero_gradient():
    labels = np.full((4, 3), INVALID, np.int32)
    labels[0] = 7  # no number of Preference
    for loss_fn, hyper in ((bradley_terry, {}), (bradley_terry_ties, {"theta": THETA})):
        value, gradient = jax.value_and_grad(lambda a: loss_fn(a, SCORES[1], labels, **hyper)[0])(  # noqa: B023
            jnp.asarray(SCORES[0])
        )
        assert value == 0
        assert (gradient == 0).all()


def test_metrics_of_a_worked_example():
    # dimension 0: right, wrong, equal; dimension 1: a tie, a masked label, one right
    a = jnp.array([[2.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
    b = jnp.array([[1.0, 1.0], [0.0, 9.0], [1.0, 4.0]])
    labels = np.array([[A, TIE], [B, B], [A, B]], np.int32)
    mask = np.array([[1, 1], [1, 0], [1, 1]], bool)
    metrics = pair_metrics(a, b, labels, mask)
    np.testing.assert_allclose(metrics["accuracy"], [0.5, 1.0])
    np.testing.assert_allclose(metrics["margin"], [4 / 3, 4.0], rtol=1e-6)
    np.testing.assert_allclose(metrics["decided"], [1.0, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(metrics["tied"], [0.0, 1 / 3], rtol=1e-6)
    nothing = pair_metrics(a, b, np.full((3, 2), TIE, np.int32))
    np.testing.assert_array_equal(nothing["accuracy"], 0.5)


def test_regression_equals_torch_and_never_sees_masked_ratings():
    ratings = np.random.default_rng(1).uniform(1, 5, size=(4, 3)).astype(np.float32)
    ratings[~MASK] = np.nan
    scores = jnp.asarray(SCORES[0])
    loss_fn = jax.value_and_grad(lambda s: regression(s, ratings, MASK), has_aux=True)
    (value, metrics), gradient = loss_fn(scores)

    s = torch.tensor(SCORES[0], requires_grad=True)
    rated = torch.tensor(MASK)
    expected = torch.nn.functional.mse_loss(s[rated], torch.tensor(ratings)[rated])
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, s.grad, rtol=1e-5)
    difference = np.abs(SCORES[0] - ratings)
    np.testing.assert_allclose(metrics["absolute_error"], np.nanmean(difference, axis=0), rtol=1e-5)


@pytest.mark.parametrize("theta", [1.0, 0.5, -3.0, np.inf, np.nan])
def test_bad_theta_is_named(theta):
    with pytest.raises(ValueError, match=f"theta={theta} must be a finite number above 1"):
        bradley_terry_ties(SCORES[0], SCORES[1], LABELS, theta=theta)
