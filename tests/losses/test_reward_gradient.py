"""The loss of PRFL and VADER in float64, with a network of two parameters: a closed form of one
step, finite differences of several, and what no gradient reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_alignment import one_step

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers import Chain, ddim, still_step
from vidpref.losses.reward_gradient import RewardGradientLoss
from vidpref.training.tuning import Everything

B, STEPS, CLIP = 4, 6, (2, 4, 4, 3)
FLOW = RectifiedFlow(prediction="x0")
POLICY = {"scale": 0.4, "text": 0.3}
JUDGE = {"judge": {"slope": 0.7, "bend": -0.4}}


def chain(params, batch, process=FLOW):
    def denoise(x, tau):
        shift = params["text"] * batch["text"] * (1 + tau)
        return params["scale"] * x + shift[:, None, None, None, None]

    return Chain(process, denoise, jnp.zeros_like(batch["state"]), STEPS)


def reward(judge, state, tau, batch):
    """Brightness against the prompt, and contrast; both by the time of the state."""
    pixels = state.reshape(len(state), -1)
    first = judge["slope"] * (1 + tau) * (pixels.mean(axis=1) * batch["text"])
    second = judge["bend"] * jnp.sin(pixels).std(axis=1) + tau
    return jnp.stack([first, second], axis=1)


def batch_at(first):
    rng = np.random.default_rng(0)
    return {
        "state": rng.normal(size=(B, *CLIP)),
        "text": rng.normal(size=B),
        "first_step": np.full(B, first, np.int32),
    }


def make(steps, process=FLOW, **fields):
    weights = {"brightness": 1.0, "contrast": 0.5}
    tuning = Everything(lambda key: jax.tree.map(jnp.asarray, POLICY))
    return RewardGradientLoss(
        lambda params, batch: chain(params, batch, process),
        steps,
        reward,
        weights,
        tuning,
        **fields,
    )


def in_float64(loss, batch, params=POLICY, frozen=JUDGE):
    with jax.enable_x64(True):
        wide = [jax.tree.map(jnp.asarray, x) for x in (params, frozen, batch)]
        function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        (value, metrics), slopes = function(*wide, jax.random.key(0))
        return jax.tree.map(np.asarray, (value, metrics, slopes))


def test_one_step_is_the_closed_form():
    """Of a reward that is linear in the state: d(of_x0 x0 + of_eps eps) / d(scale), by hand."""
    first = 2
    batch = batch_at(first)
    value, metrics, (slope, _) = in_float64(make(1), batch, frozen={
        "judge": {"slope": 0.7, "bend": 0.0}
    })  # fmt: skip
    times = FLOW.sampling_times(STEPS)
    tau, after = times[first : first + 2]
    shift = POLICY["text"] * batch["text"][:, None, None, None, None] * (1 + tau)
    x0 = POLICY["scale"] * batch["state"] + shift
    state = (1 - after) * x0 + after * (batch["state"] - (1 - tau) * x0) / tau
    weight = 0.7 * (1 + after) * batch["text"]
    mean = lambda x: x.mean(axis=(1, 2, 3, 4))  # noqa: E731
    rewards = weight * mean(state) + 0.5 * after
    moved = (1 - after) - after * (1 - tau) / tau
    np.testing.assert_allclose(value, -rewards.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["reward"], rewards.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["judged_at"], after, rtol=1e-6)
    expected = -(weight * moved * mean(batch["state"])).mean()
    np.testing.assert_allclose(slope["scale"], expected, rtol=1e-6)
    expected = -(weight * moved * (1 + tau) * batch["text"]).mean()
    np.testing.assert_allclose(slope["text"], expected, rtol=1e-6)


@pytest.mark.parametrize("process", [FLOW, DDPM("cosine", prediction="v")], ids=["flow", "ddpm"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradient_is_that_of_finite_differences(steps, process):
    batch, loss = batch_at(STEPS - steps), make(steps, process)
    _, _, (slopes, _) = in_float64(loss, batch)
    for name, slope in slopes.items():
        ends = []
        for sign in (1, -1):
            moved = POLICY | {name: POLICY[name] + sign * 1e-6}
            ends.append(in_float64(loss, batch, moved)[0])
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


def test_the_gradient_ends_where_the_last_steps_begin():
    """Of the whole chain from noise; truncation leaves out what the steps before would add."""
    batch = batch_at(0)
    whole = in_float64(make(STEPS), batch)
    with jax.enable_x64(True):
        wide = jax.tree.map(jnp.asarray, batch)
        policy = chain(jax.tree.map(jnp.asarray, POLICY), wide)
        state = wide["state"]
        for index in range(STEPS - 2):
            state = still_step(policy, state, index)
        last = np.asarray(state)
    part = in_float64(make(2), batch_at(STEPS - 2) | {"state": last})
    np.testing.assert_allclose(part[0], whole[0], rtol=1e-9)  # the same clip
    assert abs(part[2][0]["scale"] / whole[2][0]["scale"] - 1) > 0.01


def test_all_steps_are_the_sampler():
    batch = batch_at(0)
    with jax.enable_x64(True):
        drawn = chain(POLICY, jax.tree.map(jnp.asarray, batch))
        x = jnp.asarray(batch["state"])
        wanted = ddim(Chain(FLOW, drawn.denoise, x, STEPS))
        for index in range(STEPS):
            x = still_step(drawn, x, jnp.int32(index))
        np.testing.assert_allclose(x, wanted, rtol=1e-6)


def test_the_judge_gets_no_gradient():
    _, _, (_, slopes) = in_float64(make(1), batch_at(3))
    assert [float(x) for x in jax.tree.leaves(slopes)] == [0.0, 0.0]


def test_beyond_the_target_nothing_pulls():
    free, capped = make(1), make(1, target=0.2)
    batch = batch_at(3)
    _, metrics, _ = in_float64(free, batch)
    with jax.enable_x64(True):
        wide = jax.tree.map(jnp.asarray, batch)
        policy = chain(POLICY, wide)
        state, tau = still_step(policy, wide["state"], 3), policy.times[4]
        rewards, _ = free.judged(JUDGE, state, jnp.asarray(tau), wide)
        rewards = np.asarray(rewards)
    np.testing.assert_allclose(metrics["reward"], rewards.mean(), rtol=1e-6)
    assert 0 < (rewards >= 0.2).sum() < B
    value, metrics, _ = in_float64(capped, batch)
    np.testing.assert_allclose(value, np.maximum(0.2 - rewards, 0).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["at_target"], (rewards >= 0.2).mean(), rtol=1e-6)
    alone = make(1, target=1e-3)
    assert in_float64(alone, {**batch, "state": np.abs(batch["state"]) + 9,
                              "text": np.ones(B)})[2][0]["scale"] == 0  # fmt: skip


def test_microbatches_add_up():
    batch = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == float else x, batch_at(4))
    params = jax.tree.map(jnp.float32, POLICY)
    frozen = jax.tree.map(jnp.float32, JUDGE)
    (whole, gradient), (parts, added) = (
        one_step(params, frozen, make(2), batch, accumulate) for accumulate in (1, 2)
    )
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-5)
    for name in gradient:
        np.testing.assert_allclose(added[name], gradient[name], rtol=1e-4, atol=1e-7)


def test_the_reward_rises():
    """Clips of the policy, drawn anew before every step, as the rollout does."""
    loss, params = make(2), jax.tree.map(jnp.float32, POLICY)
    frozen, optimizer = jax.tree.map(jnp.float32, JUDGE), optax.adam(0.03)
    state = optimizer.init(params)
    text = jnp.asarray(batch_at(0)["text"], jnp.float32)

    @jax.jit
    def step(params, state, key):
        noise = jax.random.normal(key, (B, *CLIP))
        batch = {"text": text, "state": noise, "first_step": jnp.full(B, STEPS - 2)}
        drawn = chain(params, batch)
        for index in range(STEPS - 2):
            batch["state"] = still_step(drawn, batch["state"], index)
        batch = jax.lax.stop_gradient(batch)
        slopes, metrics = jax.grad(loss, has_aux=True)(params, frozen, batch, key)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(params, updates), state, metrics["reward"]

    rewards = []
    for i in range(40):
        params, state, found = step(params, state, jax.random.key(i))
        rewards.append(float(found))
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.3
