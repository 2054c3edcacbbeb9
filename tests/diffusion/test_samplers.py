"""Samplers against diffusers, step by step, with the same noise in both."""

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
from vidpref.diffusion.samplers import Chain, drawn_noise, sample

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
        added = torch.tensor(np.asarray(drawn_noise(keys, index, SHAPE[1:])))
        return scheduler.step(
            output, timestep, x, eta=eta, variance_noise=added, use_clipped_model_output=True
        ).prev_sample

    ours = our_states(
        DDPM(schedule, prediction=prediction, spacing=spacing),
        noise,
        sampler="ddim",
        steps=STEPS,
        eta=eta,
        keys=keys,
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
        added = torch.tensor(np.asarray(drawn_noise(keys, index, SHAPE[1:])))
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *a, **k: added)
        return scheduler.step(output, timestep, x).prev_sample

    ours = our_states(
        DDPM(schedule, prediction=prediction, spacing=spacing),
        noise,
        sampler="ddpm",
        steps=steps,
        keys=keys,
        clip_x0=clip,
    )
    scheduler.set_timesteps(steps)
    assert_same(ours, their_states(scheduler, step, noise), TOLERANCE[schedule])


def jitted(sampler, **fields):
    process = DDPM("cosine", prediction="x0")
    return jax.jit(
        lambda noise, keys: sample(sampler, Chain(process, denoise, noise, keys=keys, **fields))
    )


def test_jitted_equals_eager(start):
    noise, keys = start
    process = DDPM("cosine", prediction="x0")
    *_, eager = our_states(process, noise, sampler="ddpm", steps=12, keys=keys)
    np.testing.assert_allclose(jitted("ddpm", steps=12)(noise, keys), eager, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "cogvideox_dpm"])
def test_a_clip_does_not_depend_on_its_neighbours(start, sampler):
    noise, keys = start
    draw = jitted(sampler, steps=6, eta=1.0)
    together = draw(noise, keys)
    others = jax.random.normal(jax.random.key(7), SHAPE), jax.random.split(jax.random.key(8), 2)
    mixed = draw(jnp.stack([others[0][0], noise[1]]), jnp.stack([others[1][0], keys[1]]))
    np.testing.assert_array_equal(mixed[1], together[1])
    assert np.abs(np.asarray(mixed[0] - together[0])).max() > 0.1
    assert np.abs(np.asarray(draw(noise, keys[::-1]) - together)).max() > 0.1  # keys matter


def test_perfect_network_returns_its_clip(start):
    noise, keys = start
    clip = jnp.tanh(jax.random.normal(jax.random.key(3), SHAPE))
    process = DDPM("cosine", prediction="x0")
    for sampler in ("ddim", "ddpm", "cogvideox_ddim", "cogvideox_dpm", "unipc"):
        chain = Chain(process, lambda x, tau: clip, noise, steps=5, keys=keys)
        got = sample(sampler, chain)
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
    clips = sample("ddpm", Chain(process, denoise, noise, steps=500, keys=keys))
    # 24 576 draws: the standard error of a variance is 0.9 %; 500 steps cost another 0.3 %.
    np.testing.assert_allclose(jnp.var(clips), s2, rtol=0.03)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampler": "ddmi"}, "'ddmi': known are ddim, ddpm"),
        ({"sampler": "ddim", "eta": 1.5}, "eta=1.5"),
        ({"sampler": "ddim", "eta": 1.0, "keys": None}, "give keys"),
        ({"sampler": "ddpm", "keys": None}, "give keys"),
        ({"sampler": "ddpm", "eta": 0.5}, "ddpm has no eta"),
        ({"sampler": "unipc", "eta": 1.0}, "unipc adds no noise"),
        ({"sampler": "cogvideox_ddim", "eta": 1.0}, "cogvideox_ddim adds no noise"),
        ({"sampler": "cogvideox_dpm", "eta": 0.5}, "cogvideox_dpm has no eta"),
        ({"sampler": "cogvideox_dpm", "keys": None}, "give keys"),
        ({"sampler": "euler"}, "not of a DDPM: use 'ddim' or 'unipc'"),
    ],
)
def test_wrong_arguments_are_named(start, fields, message):
    noise, keys = start
    fields = {"steps": 2, "keys": keys, **fields}
    sampler = fields.pop("sampler")
    with pytest.raises(ValueError, match=message):
        sample(sampler, Chain(DDPM(), lambda x, tau: x, noise, **fields))


@pytest.mark.parametrize("sampler", ["ddpm", "cogvideox_dpm"])
def test_noise_that_is_given_takes_the_place_of_noise_from_keys(start, sampler):
    noise, keys = start
    process = DDPM("cosine", prediction="x0")
    added = jnp.stack([drawn_noise(keys, index, SHAPE[1:]) for index in range(3)], axis=1)
    chain = Chain(process, denoise, noise, steps=3, keys=keys)
    given = Chain(process, denoise, noise, steps=3, step_noise=added)
    np.testing.assert_allclose(sample(sampler, given), sample(sampler, chain), atol=1e-6)
    other = Chain(process, denoise, noise, steps=3, keys=keys, step_noise=2.0 * added)
    assert np.abs(sample(sampler, other) - sample(sampler, chain)).max() > 0.1


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
        sample("ddim", Chain(process, lambda x, tau: x, start[0], steps=2))
