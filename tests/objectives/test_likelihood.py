import jax.numpy as jnp
import numpy as np
import pytest
from objective_examples import B, draw, errors, gradient, labels, torch_gradient

from vidpref.objectives.alignment import flow_rwr, rwr, sft


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


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_flow_rwr_weighs_by_the_exponential_of_the_reward(beta):
    policy, _, reward = draw(1)
    reward = 4 * reward - 2
    value, (pull,) = torch_gradient(
        lambda p: (p.new_tensor(reward).div(beta).exp() * p).sum() / B, policy
    )
    loss, metrics = flow_rwr(errors(policy), labels(reward), beta=beta)
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    found = gradient(flow_rwr, policy, None, labels(reward), beta=beta)
    np.testing.assert_allclose(found, pull, rtol=1e-5)
    np.testing.assert_allclose(metrics["weight_max"], np.exp(reward.max() / beta), rtol=1e-5)
    np.testing.assert_allclose(metrics["weight"], np.exp(reward / beta).mean(), rtol=1e-5)


def test_flow_rwr_with_reward_zero_is_sft():
    policy, _, _ = draw(1)
    zeros = labels(np.zeros((B, 1), np.float32))
    assert flow_rwr(errors(policy), zeros, beta=0.1)[0] == sft(errors(policy), zeros)[0]
    assert flow_rwr(errors(policy), zeros, beta=0.1)[1]["weight"] == jnp.float32(1.0)


@pytest.mark.parametrize(
    ("objective", "hyper"),
    [(sft, {}), (rwr, {"eta": 0.5, "gamma": 0.25}), (flow_rwr, {"beta": 0.7})],
)
def test_the_error_on_real_clips_is_added(objective, hyper):
    policy, real, reward = draw(1)
    rows = labels(reward, np.array([1, 1, 0, 1, 1, 1], np.float32))
    alone, _ = objective(errors(policy), rows, **hyper)
    loss, metrics = objective(errors(policy, real=real), rows, real_weight=0.3, **hyper)
    expected = np.delete(real[:, 0], 2).mean()  # a padding row's real clip is not counted
    np.testing.assert_allclose(metrics["error_real"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, alone + 0.3 * expected, rtol=1e-5)
