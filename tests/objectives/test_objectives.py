import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import torch

from vidpref.objectives.alignment import OBJECTIVES, Errors, Labels, check_hyper, dpo, rwr, sft

B = 6


def draw(k, seed=0):
    rng = np.random.default_rng(seed)
    policy, reference = rng.uniform(0.1, 1.0, (2, B, k)).astype(np.float32)
    return policy, reference, rng.uniform(0, 1, (B, k)).astype(np.float32)


def errors(policy, reference=None):
    tau = jnp.linspace(0.1, 1.0, len(policy))
    reference = None if reference is None else jnp.asarray(reference)
    return Errors(policy=jnp.asarray(policy), reference=reference, tau=tau)


def labels(reward, weight=None):
    return Labels(jnp.asarray(reward), None if weight is None else jnp.asarray(weight))


def gradient(objective, policy, reference, labels, **hyper):
    """With respect to the policy's errors."""
    return jax.grad(lambda p: objective(errors(p, reference), labels, **hyper)[0])(
        jnp.asarray(policy)
    )


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


def test_sft_is_the_mean_error():
    policy, _, reward = draw(1)
    loss, metrics = sft(errors(policy), labels(reward))
    np.testing.assert_allclose(loss, policy.mean(), rtol=1e-6)
    np.testing.assert_allclose(gradient(sft, policy, None, labels(reward)), 1 / B)
    assert metrics["error"] == loss


def test_rwr_with_reward_one_is_sft():
    policy, _, _ = draw(1)
    ones = labels(np.ones((B, 1), np.float32))
    hyper = {"eta": 1.0, "gamma": 0.0}
    assert rwr(errors(policy), ones, **hyper)[0] == sft(errors(policy), ones)[0]
    np.testing.assert_array_equal(
        gradient(rwr, policy, None, ones, **hyper), gradient(sft, policy, None, ones)
    )


@pytest.mark.parametrize("k", [1, 3])
def test_rwr_weighs_each_clip_by_its_transformed_reward(k):
    policy, _, reward = draw(k)
    reward[0] = -2.0
    loss, metrics = rwr(errors(policy), labels(reward), eta=0.5, gamma=0.25)
    weight = 0.5 * reward + 0.25
    np.testing.assert_allclose(loss, (weight * policy).mean(), rtol=1e-5)
    pull = gradient(rwr, policy, None, labels(reward), eta=0.5, gamma=0.25)
    np.testing.assert_allclose(pull, weight / weight.size, rtol=1e-6)
    np.testing.assert_allclose(metrics["weight"], weight.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["negative_weights"], 1 / B, rtol=1e-6)
    np.testing.assert_allclose(metrics["error"], policy.mean(), rtol=1e-6)


HYPER = {"sft": {}, "rwr": {"eta": 2.0, "gamma": 0.1}, "dpo": {"beta": 20.0, "nll_weight": 0.3}}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_rows_do_not_count(name):
    spec = OBJECTIVES[name]
    policy, reference, reward = draw(spec.k)
    weight = np.float32([1, 1, 1, 1, 0, 0])
    loss, metrics = spec.fn(errors(policy, reference), labels(reward, weight), **HYPER[name])
    whole, expected = spec.fn(errors(policy[:4], reference[:4]), labels(reward[:4]), **HYPER[name])
    np.testing.assert_allclose(loss, whole, rtol=1e-6)
    assert metrics.keys() == expected.keys()
    for key in metrics:
        np.testing.assert_allclose(metrics[key], expected[key], rtol=1e-5)
    pull = gradient(spec.fn, policy, reference, labels(reward, weight), **HYPER[name])
    assert np.all(np.asarray(pull[4:]) == 0)
    assert np.all(np.asarray(pull[:4]).any(axis=1))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_empty_batch_is_zero_not_nan(name):
    spec = OBJECTIVES[name]
    policy, reference, reward = draw(spec.k)
    nothing = labels(reward, np.zeros(B, np.float32))
    assert spec.fn(errors(policy, reference), nothing, **HYPER[name])[0] == 0.0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_good_hyper_parameters_pass(name):
    check_hyper(name, HYPER[name])
    check_hyper("dpo", {"beta": 1})  # nll_weight has a default


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("dpoo", {}, "'dpoo' is unknown. Did you mean 'dpo'"),
        ("dpo", {"betta": 1.0}, "no field 'betta'. Did you mean 'beta'"),
        ("dpo", {"beta": 1.0, "nll": 1.0}, "no field 'nll'. Did you mean 'nll_weight'"),
        ("dpo", {}, "beta is missing; it must be > 0"),
        ("dpo", {"beta": 0.0}, "beta=0.0 must be > 0"),
        ("dpo", {"beta": -1.0}, "beta=-1.0 must be > 0"),
        ("dpo", {"beta": float("nan")}, "beta=nan must be a finite number"),
        ("dpo", {"beta": "500"}, "beta='500' must be a finite number"),
        ("dpo", {"beta": True}, "beta=True must be a finite number"),
        ("dpo", {"beta": 1.0, "nll_weight": -0.1}, "nll_weight=-0.1 must be >= 0"),
        ("rwr", {"eta": 1.0}, "gamma is missing; it must be >= 0"),
        ("rwr", {"eta": 0.0, "gamma": 0.0}, "eta=0.0 must be > 0"),
        ("sft", {"beta": 1.0}, "no field 'beta'. It takes no hyper-parameters"),
    ],
)
def test_wrong_hyper_parameters_are_named(name, hyper, message):
    with pytest.raises(ValueError, match=message):
        check_hyper(name, hyper)
