"""DPO in all its forms against scipy, torch float64 and closed forms (METHODS 3)."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import torch
from objective_examples import B, draw, errors, gradient, labels, torch_gradient

from vidpref.diffusion.flow import RectifiedFlow
from vidpref.objectives.alignment import dpo, mcdpo


def test_dpo_of_the_reference_is_log_two_and_pulls_the_pair_apart():
    policy, _, reward = draw(2)
    beta = 5000.0
    loss, metrics = dpo(errors(policy, policy), labels(reward), beta=beta)
    assert loss == np.float32(np.log(2.0))
    np.testing.assert_allclose(
        gradient(dpo, policy, policy, labels(reward), beta=beta),
        np.tile([beta / 4 / B, -beta / 4 / B], (B, 1)),  # descent: winner down, loser up
        rtol=1e-6,
    )
    assert metrics["pair_accuracy"] == 0.5
    assert metrics["saturation"] == metrics["margin"] == metrics["saturated_fraction"] == 0.0


@pytest.mark.parametrize("nll_weight", [0.0, 0.7])
@pytest.mark.parametrize("beta", [3.0, 500.0])
def test_dpo_equals_scipy_and_torch(beta, nll_weight):
    policy, reference, reward = draw(2)
    hyper = {"beta": beta, "nll_weight": nll_weight}
    loss, metrics = dpo(errors(policy, reference), labels(reward), **hyper)

    d = policy.astype(np.float64) - reference
    logit = -beta / 2 * (d[:, 0] - d[:, 1])
    expected = -scipy.special.log_expit(logit).mean() + nll_weight * policy[:, 0].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)

    p = torch.tensor(policy, dtype=torch.float64, requires_grad=True)
    d = p - torch.tensor(reference)
    pairs = -torch.nn.functional.logsigmoid(-beta / 2 * (d[:, 0] - d[:, 1]))
    (pairs.mean() + nll_weight * p[:, 0].mean()).backward()
    # float32 errors of 1e-7 times beta shift the logit by up to 2e-5.
    np.testing.assert_allclose(
        gradient(dpo, policy, reference, labels(reward), **hyper), p.grad, rtol=2e-4, atol=1e-6
    )

    margin = (reference - policy)[:, 0] - (reference - policy)[:, 1]
    np.testing.assert_allclose(metrics["margin"], margin.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["pair_accuracy"], (margin > 0).mean())
    np.testing.assert_allclose(metrics["saturation"], beta * np.abs(margin).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["leash"], beta * reference[:, 0].mean(), rtol=1e-5)
    saturated = (beta / 2 * np.abs(margin) > 4).mean()
    np.testing.assert_allclose(metrics["saturated_fraction"], saturated)
    for name, column in (("winner", 0), ("loser", 1)):
        np.testing.assert_allclose(metrics[f"error_{name}"], policy[:, column].mean(), rtol=1e-6)
        np.testing.assert_allclose(
            metrics[f"reference_error_{name}"], reference[:, column].mean(), rtol=1e-6
        )


def test_dpo_saturation_metrics_tell_a_dead_sigmoid_from_a_live_one():
    reward = np.ones((B, 2), np.float32)
    policy = np.tile(np.float32([0.1, 0.3]), (B, 1))
    for beta, fraction in ((30.0, 0.0), (50.0, 1.0)):  # beta / 2 * 0.2 = 3 and 5
        _, metrics = dpo(errors(policy, np.zeros_like(policy)), labels(reward), beta=beta)
        assert metrics["saturated_fraction"] == fraction
        np.testing.assert_allclose(metrics["saturation"], beta * 0.2, rtol=1e-6)


@pytest.mark.parametrize("winner", [0.0, 1e4])
def test_dpo_stays_finite_at_extreme_margins(winner):
    policy = np.float32([[winner, 1e4 - winner]])
    reference, reward = np.zeros_like(policy), np.ones_like(policy)
    loss, _ = dpo(errors(policy, reference), labels(reward), beta=5000.0)
    np.testing.assert_allclose(loss, 0.0 if winner == 0 else 2500.0 * 1e4)
    pull = gradient(dpo, policy, reference, labels(reward), beta=5000.0)
    np.testing.assert_allclose(pull, [[0.0, 0.0]] if winner == 0 else [[2500.0, -2500.0]])


def test_dpo_beta_goes_with_the_reduction():
    """Errors summed over n elements with beta / n are errors averaged with beta."""
    policy, reference, reward = draw(2)
    n = 512
    by_mean, mean_metrics = dpo(errors(policy, reference), labels(reward), beta=40.0)
    by_sum, sum_metrics = dpo(errors(policy * n, reference * n), labels(reward), beta=40.0 / n)
    np.testing.assert_allclose(by_mean, by_sum, rtol=1e-6)
    np.testing.assert_allclose(mean_metrics["saturation"], sum_metrics["saturation"], rtol=1e-6)


def by_hand(policy, reference, real, *, tau, weigh, beta, nll=0.0, real_weight=0.0, power=0.0):
    """Sums over winner and losers of every row, as the papers write them."""
    rows = []
    for row, (p, r, t) in enumerate(zip(policy, reference, tau, strict=True)):
        terms = []
        for loser in range(1, len(p)):
            d_w, d_l = p[0] - r[0], p[loser] - r[loser]
            logit = -beta * (1 - t) ** power / 2 * (d_w - d_l)
            terms.append(-weigh(row, loser) * torch.nn.functional.logsigmoid(logit))
        rows.append(sum(terms) / len(terms) + nll * p[0])
    return sum(rows) / len(rows) + real_weight * real.mean()


@pytest.mark.parametrize(
    ("k", "hyper", "options"),
    [
        (2, {"time_power": 2.0}, {"power": 2.0}),
        (2, {"pair_weight": "gap", "pair_weight_power": 0.7, "pair_weight_reference": 1.5}, {}),
        (2, {"pair_weight": "probability", "pair_weight_reference": 0.72}, {}),
        (4, {"nll_weight": 0.2}, {"nll": 0.2}),
        (4, {"pair_weight": "gap", "pair_weight_cap": 1.1, "time_power": 1.0}, {"power": 1.0}),
        (2, {"nll_weight": 0.2, "real_weight": 0.1}, {"nll": 0.2, "real_weight": 0.1}),
    ],
    ids=["time", "gap", "probability", "losers", "gap_time_losers", "real"],
)
def test_dpo_options_equal_torch(k, hyper, options):
    policy, reference, reward = draw(k)
    reward[:, 0] += 1.0  # the winner's is the highest
    probability = np.linspace(0.05, 0.9, B, dtype=np.float32)
    real = np.linspace(0.3, 0.8, B, dtype=np.float32)[:, None]
    more = {"real": real} if "real_weight" in hyper else {}
    given = errors(policy, reference, **more)
    tau = np.asarray(given.tau, np.float64)

    def weigh(row, loser):
        reference = hyper.get("pair_weight_reference", 1.0)
        relative = {
            "gap": (reward[row, 0] - reward[row, loser]) / reference,
            "probability": reference / probability[row],  # VideoDPO's dupfactor
            "": 1.0,
        }[hyper.get("pair_weight", "")]
        power = hyper.get("pair_weight_power", 1.0)
        return min(float(relative) ** power, hyper.get("pair_weight_cap", 10.0))

    value, (pull, _, real_pull) = torch_gradient(
        lambda p, r, x: by_hand(p, r, x, tau=tau, weigh=weigh, beta=20.0, **options),
        policy,
        reference,
        real,
    )
    hyper = {"beta": 20.0, **hyper}
    known = labels(reward, None, None, probability)
    loss, metrics = dpo(given, known, **hyper)
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    found = gradient(dpo, policy, reference, known, more, **hyper)
    np.testing.assert_allclose(found, pull, rtol=1e-4, atol=1e-6)
    margin = (reference - policy)[:, :1] - (reference - policy)[:, 1:]
    np.testing.assert_allclose(metrics["margin"], margin.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["pair_accuracy"], (margin > 0).mean(), rtol=1e-6)
    strength = 20.0 * (1 - tau[:, None]) ** hyper.get("time_power", 0.0)
    expected = (strength * np.abs(margin)).mean()
    np.testing.assert_allclose(metrics["saturation"], expected, rtol=1e-5)
    expected = (strength[:, 0] * reference[:, 0]).mean()
    np.testing.assert_allclose(metrics["leash"], expected, rtol=1e-5)
    if more:
        np.testing.assert_allclose(metrics["error_real"], real.mean(), rtol=1e-6)
        np.testing.assert_allclose(real_pull, 0.1 / B, rtol=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_pairs_that_are_far_apart_weigh_more(power):
    """With policy = reference every term is its weight times log 2."""
    policy, _, reward = draw(2)

    def weight(gap, probability, pair_weight, reference):
        reward[:] = [gap, 0.0]
        known = labels(reward, None, None, np.full(B, probability, np.float32))
        hyper = {"pair_weight": pair_weight, "pair_weight_power": power}
        loss, _ = dpo(
            errors(policy, policy), known, beta=9.0, pair_weight_reference=reference, **hyper
        )
        return float(loss) / np.log(2.0)

    np.testing.assert_allclose(weight(0.2, 1.0, "gap", 0.4), 0.5**power, rtol=1e-5)
    np.testing.assert_allclose(weight(0.8, 1.0, "gap", 0.4), 2.0**power, rtol=1e-5)
    np.testing.assert_allclose(weight(1e3, 1.0, "gap", 0.4), 10.0, rtol=1e-5)  # the cap
    assert weight(0.0, 1.0, "gap", 0.4) == 0.0
    np.testing.assert_allclose(weight(0.2, 0.36, "probability", 0.72), 2.0**power, rtol=1e-5)


def test_several_losers_of_the_reference_are_log_two():
    policy, _, reward = draw(4)
    loss, _ = dpo(errors(policy, policy), labels(reward), beta=100.0)
    assert loss == np.float32(np.log(2.0))
    pull = gradient(dpo, policy, policy, labels(reward), beta=100.0)
    np.testing.assert_allclose(pull[:, 0], 100 / 4 / B, rtol=1e-6)
    np.testing.assert_allclose(pull[:, 1:], -100 / 4 / B / 3, rtol=1e-6)


def test_beta_that_falls_with_time_turns_velocity_errors_into_noise_errors():
    """VideoAlign lemma B.1: a noise error is (1 - tau)^2 times that of the velocity."""
    policy, reference, reward = draw(2)
    velocity = errors(policy, reference)
    tau, outputs = velocity.tau, np.random.default_rng(3).normal(size=(2, B, 5)).astype(np.float32)
    process, (x_tau, output) = RectifiedFlow(), outputs
    noise = process.convert(output, x_tau, tau, to="eps", source="velocity")
    moved = process.convert(output + 1.0, x_tau, tau, to="eps", source="velocity")
    np.testing.assert_allclose(moved - noise, (1 - tau)[:, None] * jnp.ones((1, 5)), atol=1e-5)

    factor = ((1 - tau) ** 2)[:, None]
    in_noise = errors(policy * factor, reference * factor)
    by_time, metrics = dpo(velocity, labels(reward), beta=40.0, time_power=2.0)
    expected, noise_metrics = dpo(in_noise, labels(reward), beta=40.0)
    np.testing.assert_allclose(by_time, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["saturation"], noise_metrics["saturation"], rtol=1e-5)
    assert abs(dpo(velocity, labels(reward), beta=40.0)[0] - expected) > 1e-2


def motion_of(seed=5):
    return np.random.default_rng(seed).uniform(0, 1, (B, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("factors", [(1.0, 1.0), (2.0, 0.0)])
def test_mcdpo_equals_torch(factors):
    policy, reference, reward = draw(2)
    motion = motion_of()
    om, cm = factors

    def loss(p, r):
        rows = []
        for i in range(B):
            (om_w, cm_w), (om_l, cm_l) = motion[i].astype(float)
            w_w = 0.5 + scipy.special.expit(om * (om_w - om_l) + cm * (cm_w - cm_l))
            gap = w_w * (p[i, 0] - r[i, 0]) - (2 - w_w) * (p[i, 1] - r[i, 1])
            rows.append(-torch.nn.functional.logsigmoid(-10.0 / 2 * gap) + 0.3 * p[i, 0])
        return sum(rows) / B

    value, (pull, _) = torch_gradient(loss, policy, reference)
    hyper = {"beta": 10.0, "nll_weight": 0.3, "object_motion": om, "camera_motion": cm}
    given = labels(reward, motion=motion)
    found, metrics = mcdpo(errors(policy, reference), given, **hyper)
    np.testing.assert_allclose(found, value, rtol=1e-5)
    found = gradient(mcdpo, policy, reference, given, **hyper)
    np.testing.assert_allclose(found, pull, rtol=1e-4, atol=1e-6)
    difference = ((motion[:, 0] - motion[:, 1]) * np.float32(factors)).sum(axis=1)
    expected = (0.5 + scipy.special.expit(difference)).mean()
    np.testing.assert_allclose(metrics["winner_weight"], expected, rtol=1e-5)


def test_mcdpo_of_equal_motion_is_dpo():
    policy, reference, reward = draw(2)
    motion = motion_of()
    motion[:, 1] = motion[:, 0]
    given = labels(reward, motion=motion)
    loss, metrics = mcdpo(errors(policy, reference), given, beta=20.0)
    expected, plain = dpo(errors(policy, reference), labels(reward), beta=20.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(
        gradient(mcdpo, policy, reference, given, beta=20.0),
        gradient(dpo, policy, reference, labels(reward), beta=20.0),
        rtol=1e-5,
    )
    for name in plain:
        np.testing.assert_allclose(metrics[name], plain[name], rtol=1e-5, err_msg=name)
    assert metrics["winner_weight"] == 1.0


def test_mcdpo_of_the_reference_is_log_two_and_pulls_a_moving_winner_more():
    policy, _, reward = draw(2)
    motion = np.zeros((B, 2, 2), np.float32)
    motion[:, 0] = 0.5  # winners move
    given = labels(reward, motion=motion)
    loss, _ = mcdpo(errors(policy, policy), given, beta=8.0)
    assert loss == np.float32(np.log(2.0))
    w_w = 0.5 + scipy.special.expit(1.0)
    expected = np.tile([2 / B * w_w, -2 / B * (2 - w_w)], (B, 1))
    pull = gradient(mcdpo, policy, policy, given, beta=8.0)
    np.testing.assert_allclose(pull, expected, rtol=1e-5)
