"""Samplers against diffusers, step by step, with the same noise in both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from chains import SHAPE, assert_same, denoise, our_states, their_states
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddpm

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers import sample, step_noise

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
STEPS = 10
# Of the state's largest element. diffusers keeps beta in float32; at the cosine schedule's cap of
# 0.999 that costs abar 5e-5. Measured: at most 3.8e-5 (cosine) and 3.2e-6 (linear).
TOLERANCE = {"linear": 1e-5, "cosine": 1e-4}


@pytest.fixture(scope="module")
def start():
    noise = jax.random.normal(jax.random.key(0), SHAPE)
    return noise, jax.random.split(jax.random.key(1), SHAPE[0])


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
        ).prev_sample

    ours = our_states(
        DDPM(schedule, prediction=prediction, spacing=spacing),
        noise,
        sampler="ddim",
        steps=STEPS,
        eta=eta,
        rng=keys,
        clip_x0=clip,
    )
    scheduler.set_timesteps(STEPS)
    assert_same(ours, their_states(scheduler, step, noise), TOLERANCE[schedule])


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
        return scheduler.step(output, timestep, x).prev_sample

    ours = our_states(
        DDPM(schedule, prediction=prediction, spacing=spacing),
        noise,
        sampler="ddpm",
        steps=steps,
        rng=keys,
        clip_x0=clip,
    )
    scheduler.set_timesteps(steps)
    assert_same(ours, their_states(scheduler, step, noise), TOLERANCE[schedule])


def jitted(sampler, **kwargs):
    process = DDPM("cosine", prediction="x0")
    return jax.jit(functools.partial(sample, process, denoise, sampler=sampler, **kwargs))


def test_jitted_equals_eager(start):
    noise, keys = start
    process = DDPM("cosine", prediction="x0")
    *_, eager = our_states(process, noise, sampler="ddpm", steps=12, rng=keys)
    np.testing.assert_allclose(jitted("ddpm", steps=12)(noise, rng=keys), eager, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "cogvideox_dpm"])
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
    for sampler in ("ddim", "ddpm", "cogvideox_ddim", "cogvideox_dpm", "unipc"):
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
        ({"sampler": "unipc", "eta": 1.0}, "unipc adds no noise"),
        ({"sampler": "cogvideox_ddim", "eta": 1.0}, "cogvideox_ddim adds no noise"),
        ({"sampler": "cogvideox_dpm", "eta": 0.5}, "cogvideox_dpm has no eta"),
        ({"sampler": "cogvideox_dpm", "rng": None}, "pass rng"),
        ({"sampler": "euler"}, "not of a DDPM: use 'ddim' or 'unipc'"),
    ],
)
def test_wrong_arguments_are_named(start, kwargs, message):
    noise, keys = start
    with pytest.raises(ValueError, match=message):
        sample(DDPM(), lambda x, tau: x, noise, **{"steps": 2, "rng": keys, **kwargs})


@pytest.mark.parametrize(
    "process",
    [
        RectifiedFlow("eps"),
        RectifiedFlow("eps", spacing="unipc"),
        DDPM("scaled_linear", prediction="eps", zero_terminal_snr=True),
    ],
)
def test_predicted_noise_is_refused_where_nothing_is_left_of_the_clip(start, process):
    with pytest.raises(ValueError, match="predict v, velocity or x0"):
        sample(process, lambda x, tau: x, start[0], sampler="ddim", steps=2)
