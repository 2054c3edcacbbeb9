import itertools
import warnings

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from vidpref.diffusion import conversions
from vidpref.diffusion.conversions import KINDS, error_factor
from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.denoising import corrupt_clips, denoising_errors
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.process import Process
from vidpref.typing import Array

DRAWS = 20_000
ZERO_SNR = DDPM("scaled_linear", prediction="v", snr_shift=3.0, zero_terminal_snr=True)


@flax.struct.dataclass
class NoCondition:
    index: Array

    def repeat(self, k):
        return NoCondition(jnp.repeat(self.index, k))


def denoising_error(denoise, process, corrupted, condition, **settings):
    """The errors of a single group of clips."""
    return denoising_errors(denoise, process, [(corrupted, condition)], **settings)[0]


def clips_and_noise(rows):
    return np.random.default_rng(0).normal(size=(2, rows, 1, 2, 2, 3)).astype(np.float32)


def draws(**fields):
    process = RectifiedFlow(**fields)
    return np.asarray(process.sample_time(jax.random.key(0), DRAWS), np.float64)


def shifted(tau, shift):
    return shift * tau / (1 + (shift - 1) * tau)


def assert_follows(tau, cdf):
    """Kolmogorov and Smirnov, at a fixed key; one in a thousand true samples would be refused."""
    assert scipy.stats.kstest(tau, cdf).pvalue > 1e-3


def test_corruption_equals_diffusers():
    x0, eps = clips_and_noise(5)
    reference = FlowMatchEulerDiscreteScheduler()
    timesteps = reference.timesteps[[0, 1, 500, 998, 999]]
    process = RectifiedFlow()
    theirs = reference.scale_noise(torch.tensor(x0), timesteps, torch.tensor(eps))
    tau = jnp.asarray(timesteps.numpy() / 1000)
    np.testing.assert_allclose(process.corrupt(x0, eps, tau), theirs, atol=1e-6)
    np.testing.assert_array_equal(process.target(x0, eps, tau), eps - x0)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_uniform_times(shift):
    tau = draws(shift=shift)
    low = shifted(1e-3, 1 / shift)  # min_time bounds the shifted times
    uniform = scipy.stats.uniform(low, 1 - low)
    assert_follows(tau, lambda t: uniform.cdf(shifted(t, 1 / shift)))
    assert 1e-3 <= tau.min() < tau.max() <= 1.0


@pytest.mark.parametrize(("mean", "std", "shift"), [(0.0, 1.0, 1.0), (-0.5, 0.7, 5.0)])
def test_logit_normal_times(mean, std, shift):
    tau = draws(time="logit_normal", logit_mean=mean, logit_std=std, shift=shift)
    normal = scipy.stats.norm(mean, std)
    # The part below min_time is cut off: less than 1e-6 of these.
    assert_follows(tau, lambda t: normal.cdf(scipy.special.logit(shifted(t, 1 / shift))))
    for q in (0.1, 0.5, 0.9):
        exact = shifted(scipy.special.expit(normal.ppf(q)), shift)
        # Five standard errors, in quantiles.
        allowed = 5 * np.sqrt(q * (1 - q) / DRAWS)
        assert q - allowed < np.mean(tau < exact) < q + allowed


@pytest.mark.parametrize("time", ["uniform", "logit_normal"])
@pytest.mark.parametrize("time_range", [(0.3, 0.8), (0.0, 0.5), (0.9, 1.0)])
def test_times_keep_to_their_range(time, time_range):
    """They have the distribution of all times, given that they fall into the range."""
    shift, (low, high) = 2.0, time_range
    tau = draws(time=time, shift=shift, time_range=time_range)
    low = max(low, 1e-3)
    assert low <= tau.min() < tau.max() <= high
    inside = {"uniform": lambda u: u, "logit_normal": lambda u: _normal_cdf(u)}[time]

    def cdf(t):
        f = [inside(shifted(np.asarray(x), 1 / shift)) for x in (low, t, high)]
        return (f[1] - f[0]) / (f[2] - f[0])

    assert_follows(tau, cdf)


def _normal_cdf(u):
    return scipy.stats.norm.cdf(scipy.special.logit(u))


@pytest.mark.parametrize("steps", [1, 2, 16, 50, 1000])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_sampling_times_equal_diffusers(shift, steps):
    euler = FlowMatchEulerDiscreteScheduler(shift=shift)
    unipc = UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=shift)
    for spacing, reference in (("euler", euler), ("unipc", unipc)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference.set_timesteps(steps)
        times = RectifiedFlow(shift=shift, spacing=spacing).sampling_times(steps)
        assert times.dtype == np.float64
        # Theirs are float32.
        np.testing.assert_allclose(times, reference.sigmas.numpy(), rtol=1e-6)
        np.testing.assert_array_equal(1 - times[0], 1 - reference.sigmas[0].double().numpy())


@pytest.mark.parametrize(("source", "to"), list(itertools.product(KINDS, KINDS)))
@pytest.mark.parametrize("process", [RectifiedFlow(), ZERO_SNR], ids=["flow", "zero_snr"])
def test_perfect_outputs_convert_at_every_time(process, source, to):
    tau = np.arange(1001) / 1000
    x0, eps = clips_and_noise(len(tau))
    on_device = jnp.asarray(tau, jnp.float32)
    x_tau = process.corrupt(x0, eps, on_device)
    weights = process.alpha_sigma(on_device)
    output = conversions.target(source, x0, eps, *weights)
    got = np.asarray(process.convert(output, x_tau, on_device, source=source, to=to))
    expected = np.asarray(conversions.target(to, x0, eps, *weights))

    alpha, sigma = process.alpha_sigma(tau)
    blind = {"x0": sigma == 0, "eps": alpha == 0}.get(source, np.zeros(len(tau), bool))
    blind &= source != to
    assert np.all(got[blind] == 0.0)
    # Inputs are rounded to float32; what rounding does to the result is the conversion's own slope.
    slope = np.sqrt(error_factor(source, to, jnp.asarray(alpha), jnp.asarray(sigma)))
    allowed = 2e-6 * np.maximum(1.0, slope).reshape(-1, 1, 1, 1, 1)
    assert np.all(np.abs(got - expected)[~blind] <= np.broadcast_to(allowed, got.shape)[~blind])


def test_v_without_signal_is_the_clip_reversed():
    """At alpha = 0 `v = -x0`: a network learns the clip from x_tau that does not contain it."""
    x0, eps = clips_and_noise(1)
    end = jnp.ones(1)
    np.testing.assert_array_equal(ZERO_SNR.corrupt(x0, eps, end), eps)
    np.testing.assert_array_equal(ZERO_SNR.target(x0, eps, end), -x0)
    np.testing.assert_array_equal(ZERO_SNR.to_x0(-x0, eps, end), x0)
    np.testing.assert_array_equal(ZERO_SNR.to_noise(-x0, eps, end), eps)


def corrupted_at(process, tau, k=2):
    rows = len(tau)
    clips = jnp.asarray(np.stack([clips_and_noise(rows)[0]] * k, axis=1))
    corrupted = corrupt_clips(process, jax.random.key(0), clips)
    tau = jnp.asarray(tau, jnp.float32)
    x_tau = jax.vmap(process.corrupt, in_axes=(1, None, None), out_axes=1)(
        clips, corrupted.eps, tau
    )
    return corrupted.replace(tau=tau, x_tau=x_tau), NoCondition(jnp.arange(rows))


def test_velocity_error_is_noise_error_over_signal():
    """VideoAlign lemma B.1: |eps - eps_hat|^2 = (1 - tau)^2 |velocity - velocity_hat|^2."""
    process = RectifiedFlow()
    tau = np.array([1e-3, 0.2, 0.5, 0.9, 0.999, 1.0])
    corrupted, condition = corrupted_at(process, tau)

    def denoise(x, tau, condition):
        return 0.5 * x

    in_velocity = denoising_error(denoise, process, corrupted, condition)
    in_noise = denoising_error(denoise, process, corrupted, condition, error_in="eps")
    tau = np.asarray(corrupted.tau, np.float64)  # as rounded: 1 - 0.999 keeps three digits less
    np.testing.assert_allclose(in_noise, in_velocity * (1 - tau[:, None]) ** 2, rtol=1e-5)

    x, eps = (np.asarray(a, np.float64) for a in (corrupted.x_tau, corrupted.eps[:, None]))
    eps_hat = x + (1 - tau.reshape(-1, 1, 1, 1, 1, 1)) * 0.5 * x  # the line from x_tau to its end
    expected = ((eps_hat - eps) ** 2).mean(axis=(2, 3, 4, 5))
    np.testing.assert_allclose(in_noise, expected, rtol=1e-4, atol=1e-9)


def test_x0_error_in_velocity_and_its_gradient():
    """1 / tau^2 times the error in x0, finite down to the least training time."""
    process = RectifiedFlow("x0")
    tau = np.array([process.min_time, 0.02, 0.5, 1.0])
    corrupted, condition = corrupted_at(process, tau)

    def error(scale):
        return denoising_error(
            lambda x, tau, c: scale * x, process, corrupted, condition, error_in="velocity"
        )

    x, x0 = (np.asarray(a, np.float64) for a in (corrupted.x_tau, corrupted.clips))
    weight = (tau**-2)[:, None]
    expected = weight * ((0.5 * x - x0) ** 2).mean(axis=(2, 3, 4, 5))
    np.testing.assert_allclose(error(0.5), expected, rtol=1e-5)
    slope = weight * 2 * (x * (0.5 * x - x0)).mean(axis=(2, 3, 4, 5))
    np.testing.assert_allclose(jax.jacobian(error)(0.5), slope, rtol=1e-4)


def test_is_a_hashable_process():
    assert RectifiedFlow(shift=3.0) == RectifiedFlow(shift=3.0)
    assert hash(RectifiedFlow()) != hash(RectifiedFlow(shift=3.0))
    assert isinstance(RectifiedFlow(), Process)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prediction": "flow"}, "prediction='flow': known predictions are x0, eps, v, velocity"),
        ({"time": "lognormal"}, "time='lognormal': known are uniform, logit_normal"),
        ({"spacing": "trailing"}, "spacing='trailing': known are euler, unipc"),
        ({"shift": 0.0}, "shift=0.0: must be positive"),
        ({"logit_std": -1.0}, "logit_std=-1.0: must be positive"),
        ({"min_time": 0.0}, "min_time=0.0: must lie between 0 and 1"),
        ({"time_range": (0.5, 0.5)}, "want 0 <= low < high <= 1"),
        ({"time_range": (0.0, 1e-4)}, "ends below min_time=0.001"),
        ({"time": "logit_normal", "time_range": (0.999, 1.0)}, "less than 0.1 %"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        RectifiedFlow(**fields)


def test_no_sampler_steps():
    with pytest.raises(ValueError, match="0 sampler steps"):
        RectifiedFlow().sampling_times(0)
