"""Samplers against diffusers, step by step, with the same noise in both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddpm

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.samplers import sample, step_noise

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
SHAPE = (2, 2, 4, 4, 3)
STEPS = 10
# Of the state's largest element. diffusers keeps beta in float32; at the cosine schedule's cap of
# 0.999 that costs abar 5e-5. Measured: at most 3.8e-5 (cosine) and 3.2e-6 (linear).
TOLERANCE = {"linear": 1e-5, "cosine": 1e-4}


def network(np_like, x, tau):
    """Any smooth function of both arguments; the same in JAX and torch."""
    return np_like.tanh(0.7 * x) + 0.3 * tau


@pytest.fixture(scope="module")
def start():
    noise = jax.random.normal(jax.random.key(0), SHAPE)
    return noise, jax.random.split(jax.random.key(1), SHAPE[0])


def our_states(process, noise, **kwargs):
    """The chain's states before every network call and at the end."""
    states = []

    def denoise(x, tau):
        states.append(np.asarray(x))
        return network(jnp, x, tau.reshape(-1, 1, 1, 1, 1))

    with jax.disable_jit():
        states.append(np.asarray(sample(process, denoise, noise, **kwargs)))
    return states


def their_states(scheduler, step, noise, steps):
    scheduler.set_timesteps(steps)
    x, states = torch.tensor(np.asarray(noise)), []
    for index, timestep in enumerate(scheduler.timesteps):
        states.append(x.numpy())
        output = network(torch, x, (timestep.item() + 1) / 1000)
        x = step(output, timestep, x, index=index).prev_sample
    return [*states, x.numpy()]


def assert_same(ours, theirs, tolerance):
    assert len(ours) == len(theirs)
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a / scale, b / scale, atol=tolerance, err_msg=f"step {step}")


@pytest.mark.parametrize(("spacing", "clip"), [("trailing", None), ("leading", 1.0)])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_equals_diffusers(start, schedule, prediction, eta, spacing, clip):
    noise, keys = start
    scheduler = DDIMScheduler(
        beta_schedule=SCHEDULES[schedule],
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        clip_sample=clip is not None,
    )

    def step(output, timestep, x, index):
        added = torch.tensor(np.asarray(step_noise(keys, index, SHAPE[1:])))
        return scheduler.step(
            output, timestep, x, eta=eta, variance_noise=added, use_clipped_model_output=True
        )

    ours = our_states(
        DDPM(schedule, prediction=prediction, spacing=spacing),
        noise,
        sampler="ddim",
        steps=STEPS,
        eta=eta,
        rng=keys,
        clip_x0=clip,
    )
    assert_same(ours, their_states(scheduler, step, noise, STEPS), TOLERANCE[schedule])


@pytest.mark.parametrize(
    ("steps", "spacing", "clip"), [(15, "trailing", 1.0), (10, "leading", None)]
)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_equals_diffusers(start, monkeypatch, schedule, prediction, steps, spacing, clip):
    noise, keys = start
    scheduler = DDPMScheduler(
        beta_schedule=SCHEDULES[schedule],
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        clip_sample=clip is not None,
    )

    def step(output, timestep, x, index):
        added = torch.tensor(np.asarray(step_noise(keys, index, SHAPE[1:])))
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *a, **k: added)
        return scheduler.step(output, timestep, x)

    ours = our_states(
        DDPM(schedule, prediction=prediction, spacing=spacing),
        noise,
        sampler="ddpm",
        steps=steps,
        rng=keys,
        clip_x0=clip,
    )
    assert_same(ours, their_states(scheduler, step, noise, steps), TOLERANCE[schedule])


def jitted(sampler, **kwargs):
    def denoise(x, tau):
        return network(jnp, x, tau.reshape(-1, 1, 1, 1, 1))

    process = DDPM("cosine", prediction="x0")
    return jax.jit(functools.partial(sample, process, denoise, sampler=sampler, **kwargs))


def test_jitted_equals_eager(start):
    noise, keys = start
    process = DDPM("cosine", prediction="x0")
    *_, eager = our_states(process, noise, sampler="ddpm", steps=12, rng=keys)
    np.testing.assert_allclose(jitted("ddpm", steps=12)(noise, rng=keys), eager, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_clip_does_not_depend_on_its_neighbours(start, sampler):
    noise, keys = start
    draw = jitted(sampler, steps=6, eta=1.0)
    together = draw(noise, rng=keys)
    others = jax.random.normal(jax.random.key(7), SHAPE), jax.random.split(jax.random.key(8), 2)
    mixed = draw(jnp.stack([others[0][0], noise[1]]), rng=jnp.stack([others[1][0], keys[1]]))
    np.testing.assert_array_equal(mixed[1], together[1])
    assert np.abs(np.asarray(mixed[0] - together[0])).max() > 0.1
    assert np.abs(np.asarray(draw(noise, rng=keys[::-1]) - together)).max() > 0.1  # keys matter


def test_perfect_network_returns_its_clip(start):
    noise, keys = start
    clip = jnp.tanh(jax.random.normal(jax.random.key(3), SHAPE))
    process = DDPM("cosine", prediction="x0")
    for sampler in ("ddim", "ddpm"):
        got = sample(process, lambda x, tau: clip, noise, sampler=sampler, steps=5, rng=keys)
        np.testing.assert_array_equal(got, clip)


def test_ancestral_chain_has_the_marginals_of_the_process():
    """For Gaussian data of variance s^2 the best x0 is linear, and the chain must keep s^2."""
    process, s2 = DDPM("cosine", prediction="x0"), 0.25

    def denoise(x, tau):
        alpha, sigma = (w.reshape(-1, 1, 1, 1, 1) for w in process.alpha_sigma(tau))
        return alpha * s2 / (alpha**2 * s2 + sigma**2) * x

    shape = (8, 4, 16, 16, 3)
    noise = jax.random.normal(jax.random.key(0), shape)
    keys = jax.random.split(jax.random.key(1), shape[0])
    clips = sample(process, denoise, noise, sampler="ddpm", steps=500, rng=keys)
    # 24 576 draws: the standard error of a variance is 0.9 %; 500 steps cost another 0.3 %.
    np.testing.assert_allclose(jnp.var(clips), s2, rtol=0.03)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sampler": "ddmi"}, "'ddmi': known are ddim, ddpm"),
        ({"sampler": "ddim", "eta": 1.5}, "eta=1.5"),
        ({"sampler": "ddim", "eta": 1.0, "rng": None}, "pass rng"),
        ({"sampler": "ddpm", "rng": None}, "pass rng"),
        ({"sampler": "ddpm", "eta": 0.5}, "ddpm has no eta"),
    ],
)
def test_wrong_arguments_are_named(start, kwargs, message):
    noise, keys = start
    with pytest.raises(ValueError, match=message):
        sample(DDPM(), lambda x, tau: x, noise, **{"steps": 2, "rng": keys, **kwargs})
