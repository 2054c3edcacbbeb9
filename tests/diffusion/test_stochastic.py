"""Random steps of a flow against the formulas of public code in torch, scipy, and their limits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
from chains import SHAPE, denoise, network

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers import Chain, drawn_noise, sample
from vidpref.diffusion.stochastic import (
    StepNoise,
    gaussian_kl,
    gaussian_log_prob,
    step_gaussian,
    step_weights,
    stochastic_sample,
)

STEPS, WINDOW = 5, (0, 4)
LEVELS = {"flow_grpo": 0.7, "dance_grpo": 0.3, "cps": 0.8}
NOISE = jax.random.normal(jax.random.key(0), SHAPE)
KEYS = jax.random.split(jax.random.key(1), SHAPE[0])
CHAIN = Chain(RectifiedFlow(shift=3.0), denoise, NOISE, STEPS, keys=KEYS)


def in_torch(name, level, x, v, sigma, after, second):
    """Mean and deviation of a step from the velocity, as each method's code has it; in float64."""
    dt = after - sigma
    if name == "flow_grpo":
        s = level * np.sqrt(sigma / (1 - (second if sigma == 1 else sigma)))
        of_x, of_v = 1 + s**2 / (2 * sigma) * dt, (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt
        return of_x * x + of_v * v, s * np.sqrt(-dt)
    if name == "dance_grpo":
        x0 = x - sigma * v
        score = -(x - x0 * (1 - sigma)) / sigma**2
        return x + dt * v - level**2 / 2 * score * dt, level * np.sqrt(-dt)
    std = after * np.sin(level * np.pi / 2)
    x0, eps = x - sigma * v, x + (1 - sigma) * v
    return (1 - after) * x0 + np.sqrt(after**2 - std**2) * eps, std


@pytest.mark.parametrize("name", LEVELS)
def test_every_step_is_that_of_the_public_code(name):
    got = stochastic_sample(CHAIN, StepNoise(name, LEVELS[name], WINDOW))
    x = torch.tensor(np.asarray(NOISE), dtype=torch.float64)
    times = CHAIN.times
    for i in range(STEPS):
        v = network(torch, x, times[i])
        if i >= WINDOW[1]:
            x = x + (times[i + 1] - times[i]) * v
            continue
        mean, std = in_torch(name, LEVELS[name], x, v, times[i], times[i + 1], times[1])
        np.testing.assert_allclose(got.states[:, i], x, atol=1e-4)
        x = mean + std * torch.tensor(np.asarray(drawn_noise(KEYS, i, SHAPE[1:])))
        expected = scipy.stats.norm.logpdf(x, mean, std).mean((1, 2, 3, 4))
        np.testing.assert_allclose(got.log_probs[:, i], expected, atol=1e-4)
    np.testing.assert_allclose(got.states[:, WINDOW[1]], got.states[:, -1])
    np.testing.assert_allclose(got.clips, x, atol=2e-4)


def test_a_trajectory_read_again_has_the_same_log_probabilities():
    """Of the network that drew it; a gradient goes to the network through the mean alone."""
    noise = StepNoise("flow_grpo", 0.7, (1, 3))
    drawn = stochastic_sample(CHAIN, noise)
    weights = step_weights(CHAIN, noise)

    @jax.jit
    def log_prob(scale, i):
        chain = dataclasses.replace(CHAIN, denoise=lambda x, tau: scale * denoise(x, tau))
        mean, std = step_gaussian(chain, weights, drawn.states[:, i], i + noise.window[0])
        return gaussian_log_prob(drawn.states[:, i + 1], mean, std)

    for i in range(2):
        np.testing.assert_allclose(log_prob(1.0, i), drawn.log_probs[:, i], atol=1e-6)
    gradient = jax.grad(lambda scale: log_prob(scale, 0).sum())(1.0)
    step = (log_prob(1.01, 0).sum() - log_prob(0.99, 0).sum()) / 0.02
    np.testing.assert_allclose(gradient, step, rtol=0.02)


def test_steps_outside_the_window_and_without_noise_are_those_of_the_flow():
    after = CHAIN.times[1:]
    for name in LEVELS:
        weights = step_weights(CHAIN, StepNoise(name, LEVELS[name], (2, 3)))
        assert (weights.std > 0).tolist() == [False, False, True, False, False]
        quiet = step_weights(CHAIN, StepNoise(name, 1e-6, WINDOW))
        np.testing.assert_allclose(quiet.std, 0, atol=1e-5)
        for one, kept in ((weights, weights.std == 0), (quiet, slice(None))):
            np.testing.assert_allclose(one.of_x0[kept], 1 - after[kept])
            np.testing.assert_allclose(one.of_eps[kept], after[kept], atol=1e-9)
    euler = sample("euler", dataclasses.replace(CHAIN, keys=None))
    quiet = stochastic_sample(CHAIN, StepNoise("flow_grpo", 1e-5, WINDOW))
    np.testing.assert_allclose(quiet.clips, euler, atol=1e-3)
    with pytest.raises(ValueError, match="steps without noise have no log-probabilities"):
        stochastic_sample(CHAIN, StepNoise("cps", 0.0, WINDOW))


@pytest.mark.parametrize("name", LEVELS)
def test_a_window_that_slides_has_the_steps_of_one_that_lies_there(name):
    sliding = StepNoise(name, LEVELS[name], (0, 2), slides=True)
    assert list(sliding.starts(STEPS)) == [0, 1, 2]
    assert list(StepNoise(name, LEVELS[name], (1, 3)).starts(STEPS)) == [1]
    draw = jax.jit(lambda start: stochastic_sample(CHAIN, sliding, start))
    for start in sliding.starts(STEPS):
        there = stochastic_sample(CHAIN, StepNoise(name, LEVELS[name], (start, start + 2)))
        got = draw(jnp.int32(start))
        for field in ("clips", "states", "log_probs"):
            np.testing.assert_allclose(getattr(got, field), getattr(there, field), atol=1e-4)
    with pytest.raises(ValueError, match=r"window=\(0, 5\)"):
        step_weights(CHAIN, StepNoise(name, LEVELS[name], (0, STEPS), slides=True))


def variances(name, steps):
    """The variance of every state by that of the flow, tau^2, for one clean clip, known exactly.

    There eps is `(x - (1 - tau) x0) / tau`, so that a step multiplies the deviation from the clip.
    """
    chain = dataclasses.replace(CHAIN, steps=steps, process=RectifiedFlow())
    weights = step_weights(chain, StepNoise(name, LEVELS[name], (0, steps - 1)))
    found, variance = [], 1.0
    for tau, after, of_eps, std in zip(
        weights.tau, chain.times[1:-1], weights.of_eps, weights.std, strict=False
    ):
        variance = (of_eps / tau) ** 2 * variance + std**2
        found.append(variance / after**2)
    return np.array(found)


def test_marginals_are_those_of_the_flow():
    np.testing.assert_allclose(variances("cps", 7), 1, rtol=1e-12)
    for name in ("flow_grpo", "dance_grpo"):
        # halfway, in ever smaller steps: 0.07 and 0.004, for DanceGRPO 0.004 and 3e-5
        off = [np.abs(variances(name, n)[n // 2] - 1) for n in (40, 4000)]
        assert 0 < off[1] < off[0] / 5
        assert off[1] < 0.02


def test_variance_of_many_draws():
    clip = 0.5
    shape = (4, 2, 16, 16, 3)

    def knows(x, tau):
        return (x - clip) / tau.reshape(-1, 1, 1, 1, 1)  # the velocity, where x0 is the clip

    noise = jax.random.normal(jax.random.key(2), shape)
    keys = jax.random.split(jax.random.key(3), shape[0])
    chain = Chain(RectifiedFlow(), knows, noise, STEPS, keys=keys)
    got = stochastic_sample(chain, StepNoise("cps", 0.8, WINDOW))
    count = noise.size
    for i in range(WINDOW[1] + 1):
        tau = chain.times[i]
        state = np.asarray(got.states[:, i], np.float64)
        np.testing.assert_allclose(state.var(), tau**2, rtol=5 * np.sqrt(2 / count))
        np.testing.assert_allclose(state.mean(), (1 - tau) * clip, atol=5 * tau / np.sqrt(count))
    np.testing.assert_allclose(got.clips, clip, atol=1e-4)


def test_divergence_of_two_steps():
    mean, other = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    normal = [torch.distributions.Normal(torch.tensor(m), 0.7) for m in (mean, other)]
    expected = torch.distributions.kl_divergence(*normal).mean((1, 2, 3, 4))
    np.testing.assert_allclose(gaussian_kl(mean, other, jnp.float32(0.7)), expected, rtol=1e-5)


def test_a_chain_that_starts_just_below_pure_noise_has_finite_steps():
    chain = dataclasses.replace(CHAIN, process=RectifiedFlow(spacing="unipc", shift=3.0))
    weights = step_weights(chain, StepNoise("flow_grpo", 0.7, WINDOW))
    assert weights.std.max() < 2
    assert (weights.of_eps[:-1] > 0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "dance"}, "name='dance' is unknown; did you mean dance_grpo"),
        ({"level": -0.1}, r"level=-0\.1: flow_grpo takes 0 or more"),
        ({"name": "cps", "level": 1.5}, r"level=1\.5: cps takes in \[0, 1\]"),
        ({"window": (2, 2)}, r"window=\(2, 2\): must be a first step and one behind the last"),
    ],
)
def test_noise_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        StepNoise(**{"name": "flow_grpo", "level": 0.7, "window": WINDOW, **fields})


def test_chains_that_do_not_suit_are_refused():
    noise = StepNoise("flow_grpo", 0.7, (0, STEPS))
    with pytest.raises(ValueError, match=r"the last of 5 steps .* end it at 4"):
        step_weights(CHAIN, noise)
    with pytest.raises(ValueError, match="a RectifiedFlow, not of a DDPM"):
        step_weights(dataclasses.replace(CHAIN, process=DDPM("cosine")), noise)
    with pytest.raises(ValueError, match="give keys"):
        stochastic_sample(dataclasses.replace(CHAIN, keys=None), StepNoise("cps", 0.5, WINDOW))
