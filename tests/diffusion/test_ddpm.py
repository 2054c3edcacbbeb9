import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.process import Process

NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
TIMESTEPS = np.array([0, 1, 250, 500, 998, 999])


@pytest.mark.parametrize("schedule", NAMES)
def test_corruption_and_v_target_equal_diffusers(schedule):
    x0, eps = np.random.default_rng(0).normal(size=(2, 6, 2, 4, 4, 3)).astype(np.float32)
    tau = jnp.asarray((TIMESTEPS + 1) / 1000)
    process = DDPM(schedule, prediction="v")
    reference = DDPMScheduler(beta_schedule=NAMES[schedule])
    args = torch.tensor(x0), torch.tensor(eps), torch.tensor(TIMESTEPS)
    # diffusers takes sqrt(1 - abar) of a float32 abar: at its first step (sigma 0.006) that is good
    # to 1e-5 only.
    np.testing.assert_allclose(process.corrupt(x0, eps, tau), reference.add_noise(*args), atol=2e-5)
    v = reference.get_velocity(*args)
    np.testing.assert_allclose(process.target(x0, eps, tau), v, atol=2e-5)


def test_time_zero_is_clean_and_host_times_stay_exact():
    process = DDPM("cosine", prediction="x0")
    x0 = jax.random.normal(jax.random.key(0), (1, 1, 2, 2, 3))
    clean = process.corrupt(x0, jnp.ones_like(x0), jnp.zeros(1))
    np.testing.assert_array_equal(clean, x0)
    tau = np.arange(1001) / 1000
    on_host, on_device = process.alpha_sigma(tau), process.alpha_sigma(jnp.asarray(tau))
    for host, device in zip(on_host, on_device, strict=True):
        assert host.dtype == np.float64
        assert device.dtype == jnp.float32
        np.testing.assert_array_equal(host.astype(np.float32), device)


def test_training_times_are_uniform_over_the_steps():
    process = DDPM(steps=5)
    tau = np.asarray(process.sample_time(jax.random.key(0), 20_000))
    steps, counts = np.unique(np.rint(tau * 5).astype(int), return_counts=True)
    np.testing.assert_array_equal(steps, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(tau * 5, np.rint(tau * 5), atol=1e-6)
    # Binomial with p = 0.2: five standard deviations are 283.
    np.testing.assert_allclose(counts, 4000, atol=283)


@pytest.mark.parametrize(
    ("time_range", "steps"),
    [((0.0, 1.0), [1, 2, 3, 4, 5]), ((0.2, 0.6), [1, 2, 3]), ((0.5, 0.99), [3, 4])],
)
def test_training_times_keep_to_their_range(time_range, steps):
    process = DDPM(steps=5, time_range=time_range)
    tau = np.asarray(process.sample_time(jax.random.key(0), 500))
    np.testing.assert_array_equal(np.unique(np.rint(tau * 5)), steps)


@pytest.mark.parametrize("reference", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("steps", [1, 7, 16, 50, 1000])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_sampling_times_equal_diffusers(spacing, steps, reference):
    reference = reference(timestep_spacing=spacing)
    reference.set_timesteps(steps)
    times = DDPM(spacing=spacing).sampling_times(steps)
    np.testing.assert_allclose(times[:-1], (reference.timesteps.numpy() + 1) / 1000)
    assert times[-1] == 0.0


def test_is_a_hashable_static_argument():
    draw = jax.jit(lambda process, rng: process.sample_time(rng, 2), static_argnums=0)
    a, b = DDPM(), DDPM()
    assert a == b
    assert hash(a) == hash(b)
    np.testing.assert_array_equal(draw(a, jax.random.key(0)), draw(b, jax.random.key(0)))
    assert isinstance(a, Process)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "cosin"}, "schedule='cosin': known are linear, cosine"),
        ({"prediction": "epsilon"}, "prediction='epsilon': known predictions are x0, eps, v"),
        ({"spacing": "log"}, "spacing='log': known are trailing, leading, linspace"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 1, "zero_terminal_snr": True}, "steps=1: zero_terminal_snr"),
        ({"snr_shift": 0.0}, "snr_shift=0.0"),
        ({"time_range": (0.6, 0.4)}, "want 0 <= low < high <= 1"),
        ({"time_range": (0.0, 1.5)}, "want 0 <= low < high <= 1"),
        ({"time_range": (0.21, 0.39), "steps": 5}, "no multiple of 1/5 in it"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        DDPM(**fields)


def test_more_sampler_steps_than_the_chain_has():
    with pytest.raises(ValueError, match="11 sampler steps: a chain of 10"):
        DDPM(steps=10).sampling_times(11)
