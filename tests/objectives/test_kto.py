"""Diffusion-KTO against loops over clips in torch float64 (IPO eq. 5-7)."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from objective_examples import B, draw, errors, gradient, labels, torch_gradient

from vidpref.objectives.alignment import kto, kto_statistics

REWARD = np.float32([[1], [0], [1], [1], [1], [0.5]])  # the last is not above the threshold
GOOD = REWARD[:, 0] > 0.5


def by_hand(policy, reference, *, beta, lambdas=(1.0, 1.0), points=None, detach=True):
    """`lambda (1 - sigmoid(s beta (g - Q)))`; `points` gives Q of g [B] for each clip."""
    g = reference[:, 0] - policy[:, 0]
    points = points or (lambda g: [g.mean()] * B)
    losses = []
    for i, point in enumerate(points(g)):
        point = torch.clamp(point.detach() if detach else point, min=0)
        s, weight = (1, lambdas[0]) if GOOD[i] else (-1, lambdas[1])
        losses.append(weight * (1 - torch.sigmoid(s * beta * (g[i] - point))))
    return sum(losses) / B


def own_class(g):
    means = {True: g[GOOD].mean(), False: g[~GOOD].mean()}
    return [means[bool(good)] for good in GOOD]


def balanced(g):
    return [(g[GOOD].mean() + g[~GOOD].mean()) / 2] * B


@pytest.mark.parametrize(
    ("hyper", "options"),
    [
        ({}, {}),
        ({"desirable_weight": 1.5, "undesirable_weight": 0.5}, {"lambdas": (1.5, 0.5)}),
        ({"reference_point": "own_class"}, {"points": own_class}),
        ({"reference_point": "balanced"}, {"points": balanced}),
    ],
)
def test_equals_torch(hyper, options):
    policy, reference, _ = draw(1)
    policy[GOOD] -= 0.3  # both classes have moved, so that no Q is cut off at zero
    reference += 0.4
    loss, _ = kto(errors(policy, reference), labels(REWARD), beta=3.0, **hyper)
    value, (pull, _) = torch_gradient(
        lambda p, r: by_hand(p, r, beta=3.0, **options), policy, reference
    )
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    found = gradient(kto, policy, reference, labels(REWARD), beta=3.0, **hyper)
    np.testing.assert_allclose(found, pull, rtol=1e-4, atol=1e-7)
    _, (through, _) = torch_gradient(
        lambda p, r: by_hand(p, r, beta=3.0, detach=False, **options), policy, reference
    )
    assert (through - pull).abs().max() > 1e-3  # a gradient through Q would show


def test_mismatched_reference_point_is_the_mean_of_what_it_is_given():
    policy, reference, _ = draw(1)
    moved = np.float32([[0.4], [0.1], [-0.2], [0.3], [0.2], [0.4]])
    hyper = {"beta": 3.0, "reference_point": "mismatched"}
    loss, metrics = kto(errors(policy, reference, mismatched=moved), labels(REWARD), **hyper)
    value, (pull, _) = torch_gradient(
        lambda p, r: by_hand(p, r, beta=3.0, points=lambda g: [g.new_tensor(0.2)] * B),
        policy,
        reference,
    )
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    np.testing.assert_allclose(metrics["reference_point"], 0.2, rtol=1e-6)
    found = gradient(kto, policy, reference, labels(REWARD), {"mismatched": moved}, **hyper)
    np.testing.assert_allclose(found, pull, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("point", ["mean", "balanced", "own_class", "mismatched"])
def test_of_the_reference_is_one_half_and_pulls_by_class(point):
    policy, _, _ = draw(1)
    more = {"mismatched": np.zeros_like(policy)}
    hyper = {"beta": 50.0, "reference_point": point}
    loss, metrics = kto(errors(policy, policy, **more), labels(REWARD), **hyper)
    assert loss == 0.5
    assert metrics["reference_point"] == metrics["saturation"] == 0.0
    np.testing.assert_allclose(
        gradient(kto, policy, policy, labels(REWARD), more, **hyper)[:, 0],
        np.where(GOOD, 1, -1) * 50.0 / 4 / B,  # descent: desirable errors down, others up
        rtol=1e-6,
    )


def test_reference_point_is_never_negative():
    policy, _, _ = draw(1)
    reference = policy - np.float32(0.2)  # the policy is worse everywhere: g = -0.2
    loss, metrics = kto(errors(policy, reference), labels(REWARD), beta=3.0)
    value, _ = torch_gradient(lambda p, r: by_hand(p, r, beta=3.0), policy, reference)
    assert metrics["reference_point"] == 0.0
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    assert abs(loss - 0.5) > 0.01  # with Q = -0.2 every clip would give one half


def test_the_balanced_point_may_be_negative():
    """Diffusion-KTO's `bce_offset=sigmoid`: one point, the mean of the class means, not clamped."""
    policy, reference, _ = draw(1)
    reference = policy - np.float32([[0.1], [0.6], [0.2], [0.1], [0.2], [0.4]])
    hyper = {"beta": 3.0, "reference_point": "balanced"}
    loss, metrics = kto(errors(policy, reference), labels(REWARD), **hyper)
    p, r = (
        torch.tensor(x[:, 0], dtype=torch.float64, requires_grad=True) for x in (policy, reference)
    )
    g = -p - -r.detach()
    good = torch.tensor(GOOD)
    point = ((good * g).sum() / good.sum() + (~good * g).sum() / (~good).sum()).detach() / 2
    value = (1 - torch.sigmoid((2 * good.double() - 1) * 3.0 * (g - point))).mean()
    value.backward()
    np.testing.assert_allclose(point.item(), -(0.15 + 0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["reference_point"], point.item(), rtol=1e-5)
    np.testing.assert_allclose(loss, value.item(), rtol=1e-5)
    found = gradient(kto, policy, reference, labels(REWARD), **hyper)
    np.testing.assert_allclose(found[:, 0], p.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("point", "push"), [("mean", 1.9e-5), ("balanced", 1.9e-5), ("own_class", 15.6)]
)
def test_what_still_pushes_desirable_clips_that_are_told_apart(point, push):
    """Eight clips, g = 0.03 of the desirable half and -0.03 of the others: at beta 500 enough."""
    good = np.float32([[1], [0]] * 4)
    policy = np.full((8, 1), 0.5, np.float32)
    reference = policy + np.where(good > 0, 0.03, -0.03).astype(np.float32)
    hyper = {"beta": 500.0, "reference_point": point}
    found = gradient(kto, policy, reference, labels(good), **hyper)
    np.testing.assert_allclose(np.asarray(found)[good > 0], push, rtol=0.02)


def test_real_clips_are_added():
    policy, reference, _ = draw(1)
    real = np.linspace(0.2, 0.9, B, dtype=np.float32)[:, None]
    plain, _ = kto(errors(policy, reference), labels(REWARD), beta=3.0)
    with_real = errors(policy, reference, real=real)
    loss, metrics = kto(with_real, labels(REWARD), beta=3.0, real_weight=0.1)
    np.testing.assert_allclose(loss, plain + 0.1 * real.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["error_real"], real.mean(), rtol=1e-6)


def test_metrics_by_hand():
    policy, reference, _ = draw(1)
    reference += 0.4
    _, metrics = kto(errors(policy, reference), labels(REWARD), beta=3.0)
    g = (reference - policy)[:, 0].astype(np.float64)
    assert g.mean() > 0
    expected = {
        "error": policy.mean(),
        "reference_point": g.mean(),
        "moved_desirable": g[GOOD].mean(),
        "moved_undesirable": g[~GOOD].mean(),
        "desirable": 4 / 6,
        "leash": 3.0 * reference.mean(),
        "saturation": 3.0 * np.abs(g - g.mean()).mean(),
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_threshold_divides_the_classes():
    policy, reference, _ = draw(1)
    _, low = kto(errors(policy, reference), labels(REWARD), beta=1.0, threshold=0.4)
    np.testing.assert_allclose(low["desirable"], 5 / 6, rtol=1e-6)


def test_a_class_without_clips_has_no_reference_point_but_a_finite_loss():
    policy, reference, _ = draw(1)
    bad = labels(np.zeros((B, 1), np.float32))
    loss, metrics = kto(errors(policy, reference), bad, beta=3.0, reference_point="own_class")
    assert np.isfinite(loss)
    assert metrics["moved_desirable"] == metrics["desirable"] == 0.0


@pytest.mark.parametrize("point", ["mean", "balanced", "own_class", "mismatched"])
def test_mean_statistics_of_parts_are_those_of_the_whole(point):
    policy, reference, _ = draw(1)
    reference += 0.4
    weight = np.float32([1, 0, 1, 1, 1, 1])
    rolled = np.roll(reference - policy, 1, axis=0)

    def part(rows):
        own = errors(policy[rows], reference[rows], mismatched=rolled[rows])
        return own, labels(REWARD[rows], weight[rows])

    halves = [kto_statistics(*part(np.arange(i, B, 2)), threshold=0.5) for i in range(2)]
    given = {name: (halves[0][name] + halves[1][name]) / 2 for name in halves[0]}
    whole, every = part(np.arange(B))
    hyper = {"beta": 3.0, "reference_point": point}
    expected, _ = kto(whole, every, **hyper)
    np.testing.assert_allclose(kto(whole, every, given, **hyper)[0], expected, rtol=1e-6)
    wrong, _ = kto(whole, every, {**halves[0]}, **hyper)
    assert jnp.abs(wrong - expected) > 1e-4  # statistics of a part alone give another loss
