"""Euler, UniPC and CogVideoX's samplers against diffusers: every state, and gradients.

Measured differences, relative to a state's largest element: at most 7e-7, and 7e-6 for UniPC on the
cosine schedule with predicted noise.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from chains import SHAPE, assert_same, denoise, our_states, their_chain, their_states
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers import scheduling_dpm_cogvideox

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers import Chain, drawn_noise, sample

PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


@pytest.fixture(scope="module")
def noise():
    return jax.random.normal(jax.random.key(0), SHAPE)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(1), SHAPE[0])


def plain_step(scheduler):
    scheduler.set_begin_index(0)
    return lambda output, timestep, x, index: scheduler.step(output, timestep, x).prev_sample


def flow_euler(shift, steps):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler, plain_step(scheduler), scheduler.sigmas[:-1]


def flow_unipc(shift, steps):
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(steps)
    return scheduler, plain_step(scheduler), scheduler.timesteps / 1000


def cogvideox(monkeypatch, scheduler, steps, keys, spacing="trailing"):
    """The step of either scheduler as CogVideoXPipeline calls it, with this library's noise."""
    scheduler = scheduler(
        prediction_type="v_prediction",
        timestep_spacing=spacing,
        snr_shift_scale=3.0,
        rescale_betas_zero_snr=True,
    )
    scheduler.set_timesteps(steps)
    before = None

    def ddim_step(output, timestep, x, index):
        return scheduler.step(output, timestep, x).prev_sample

    def dpm_step(output, timestep, x, index):
        nonlocal before
        added = torch.tensor(np.asarray(drawn_noise(keys, index, SHAPE[1:])))
        monkeypatch.setattr(scheduling_dpm_cogvideox, "randn_tensor", lambda *a, **k: added)
        timestep_back = scheduler.timesteps[index - 1] if index else None
        x, before = scheduler.step(output, before, timestep, timestep_back, x)
        return x

    is_ddim = isinstance(scheduler, CogVideoXDDIMScheduler)
    return scheduler, ddim_step if is_ddim else dpm_step


COGVIDEOX = DDPM("scaled_linear", prediction="v", snr_shift=3.0, zero_terminal_snr=True)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 10])
def test_euler_equals_diffusers(noise, steps, shift):
    ours = our_states(RectifiedFlow(shift=shift), noise, sampler="euler", steps=steps)
    scheduler, step, times = flow_euler(shift, steps)
    assert_same(ours, their_states(scheduler, step, noise, times), 1e-6)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (2, 3.0), (3, 1.0), (12, 1.0), (12, 5.0)])
def test_unipc_equals_diffusers_on_flow(noise, steps, shift):
    scheduler, step, times = flow_unipc(shift, steps)
    process = RectifiedFlow(shift=shift, spacing="unipc")
    ours = our_states(process, noise, sampler="unipc", steps=steps)
    assert_same(ours, their_states(scheduler, step, noise, times), 2e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("schedule", "name", "tolerance"),
    # The cosine's last beta is 0.999: eps there is divided by an alpha of 5e-5.
    [("linear", "linear", 2e-6), ("cosine", "squaredcos_cap_v2", 2e-5)],
)
def test_unipc_equals_diffusers_on_ddpm(noise, schedule, name, tolerance, prediction):
    scheduler = UniPCMultistepScheduler(
        beta_schedule=name,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(10)
    ours = our_states(DDPM(schedule, prediction=prediction), noise, sampler="unipc", steps=10)
    assert_same(ours, their_states(scheduler, plain_step(scheduler), noise), tolerance)


@pytest.mark.parametrize(
    ("steps", "spacing"),
    [(2, "trailing"), (10, "trailing"), (30, "trailing"), (10, "linspace"), (7, "leading")],
)
@pytest.mark.parametrize("sampler", ["cogvideox_ddim", "cogvideox_dpm"])
def test_cogvideox_equals_diffusers(monkeypatch, noise, keys, sampler, steps, spacing):
    reference = {
        "cogvideox_ddim": CogVideoXDDIMScheduler,
        "cogvideox_dpm": CogVideoXDPMScheduler,
    }[sampler]
    theirs = their_states(*cogvideox(monkeypatch, reference, steps, keys, spacing), noise)
    process = dataclasses.replace(COGVIDEOX, spacing=spacing)
    assert_same(our_states(process, noise, sampler=sampler, steps=steps, keys=keys), theirs, 2e-6)


@pytest.mark.parametrize("sampler", ["euler", "unipc", "cogvideox_dpm"])
def test_jitted_chain_and_its_gradient_equal_torch(monkeypatch, noise, keys, sampler):
    steps, times = 5, None
    if sampler == "cogvideox_dpm":
        process = COGVIDEOX
        scheduler, step = cogvideox(monkeypatch, CogVideoXDPMScheduler, steps, keys)
    else:
        process = RectifiedFlow(shift=3.0, spacing=sampler)
        build = flow_euler if sampler == "euler" else flow_unipc
        scheduler, step, times = build(3.0, steps)
    start = torch.tensor(np.asarray(noise), requires_grad=True)
    *_, theirs = their_chain(scheduler, step, start, times)
    (theirs**2).sum().backward()

    @jax.jit
    def loss(noise):
        clips = sample(sampler, Chain(process, denoise, noise, steps, keys=keys))
        return (clips**2).sum(), clips

    (_, ours), gradient = jax.value_and_grad(loss, has_aux=True)(noise)
    assert_same([ours], [theirs.detach().numpy()], 2e-6)
    assert_same([gradient], [start.grad.numpy()], 2e-6)


def gaussian_velocity(x, tau):
    """The best velocity for clips of independent N(0, 0.5^2) elements."""
    tau = tau.reshape(-1, 1, 1, 1, 1)
    return (tau - 0.25 * (1 - tau)) / (0.25 * (1 - tau) ** 2 + tau**2) * x


def test_unipc_converges_faster_than_euler(noise):
    """The exact flow takes N(0, 1) to N(0, 0.5^2) by halving every element."""

    def error(sampler, steps):
        draw = jax.jit(
            lambda x: sample(sampler, Chain(RectifiedFlow(), gaussian_velocity, x, steps))
        )
        return float(jnp.abs(draw(noise) - 0.5 * noise).max())

    coarse, fine = error("unipc", 40), error("unipc", 80)
    assert fine < 0.2 * error("euler", 80)
    assert fine < 0.25 * coarse  # second order quarters an error


@pytest.mark.parametrize("sampler", ["euler", "unipc", "cogvideox_dpm"])
def test_clipping_equals_a_network_that_clips(noise, keys, sampler):
    ddpm = dataclasses.replace(COGVIDEOX, prediction="x0")
    process = ddpm if sampler.startswith("cogvideox") else RectifiedFlow("x0")

    def clipping(x, tau):
        return jnp.clip(denoise(x, tau), -0.2, 0.2)

    free = Chain(process, denoise, noise, steps=4, keys=keys)
    clipped = sample(sampler, dataclasses.replace(free, clip_x0=0.2))
    inside = sample(sampler, dataclasses.replace(free, denoise=clipping))
    np.testing.assert_allclose(clipped, inside, atol=1e-6)
    assert np.abs(clipped - sample(sampler, free)).max() > 0.1


@pytest.mark.parametrize("spacing", ["euler", "unipc"])
def test_unipc_starts_from_pure_noise_exactly(noise, spacing):
    """Nothing is divided by the signal that is not there, in clips or gradients."""
    for process in (RectifiedFlow(spacing=spacing), COGVIDEOX):

        def total(noise, process=process):
            return sample("unipc", Chain(process, denoise, noise, steps=4)).sum()

        value, gradient = jax.value_and_grad(total)(noise)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
