import numpy as np
import pytest
from diffusers import CogVideoXDDIMScheduler, DDPMScheduler

from vidpref.diffusion.schedules import alpha_sigma_tables, cumulative_alphas

NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("steps", [10, 1000])
@pytest.mark.parametrize("schedule", NAMES)
def test_equals_diffusers(schedule, steps):
    reference = DDPMScheduler(steps, 1e-4, 0.02, beta_schedule=NAMES[schedule])
    abar = cumulative_alphas(schedule, steps)
    assert abar.dtype == np.float64
    assert abar[0] == 1.0
    assert len(abar) == steps + 1
    # diffusers rounds every beta to float32; the cosine cap 0.999 keeps 1 - beta to 5e-5.
    np.testing.assert_allclose(abar[1:], reference.alphas_cumprod.numpy(), rtol=1e-4)
    exact = np.cumprod(1 - reference.betas.double().numpy())
    np.testing.assert_allclose(abar[1:-1], exact[:-1], rtol=5e-6)


def test_cosine_follows_its_formula():
    t = np.arange(1000) / 1000  # the last step is capped
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cumulative_alphas("cosine", 1000)[:-1], f / f[0], rtol=1e-9)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("snr_shift", [1.0, 3.0])
def test_cogvideox_schedule_equals_diffusers(snr_shift, zero_terminal_snr):
    reference = CogVideoXDDIMScheduler(
        snr_shift_scale=snr_shift, rescale_betas_zero_snr=zero_terminal_snr
    )
    abar = cumulative_alphas("scaled_linear", 1000, snr_shift, zero_terminal_snr)
    # Both in float64.
    np.testing.assert_allclose(abar[1:], reference.alphas_cumprod.numpy(), rtol=1e-11)
    assert (abar[-1] == 0.0) == zero_terminal_snr


def test_snr_shift_divides_the_signal_to_noise_ratio():
    plain, shifted = (cumulative_alphas("cosine", 100, shift)[1:] for shift in (1.0, 4.0))
    np.testing.assert_allclose(shifted / (1 - shifted), plain / (1 - plain) / 4, rtol=1e-9)


@pytest.mark.parametrize("schedule", NAMES)
def test_zero_terminal_snr_equals_diffusers(schedule):
    """diffusers rescales betas in float32; the product of 1000 of them keeps four digits."""
    reference = DDPMScheduler(beta_schedule=NAMES[schedule], rescale_betas_zero_snr=True)
    alpha, sigma = alpha_sigma_tables(schedule, 1000, zero_terminal_snr=True)
    np.testing.assert_allclose(alpha[1:] ** 2, reference.alphas_cumprod, rtol=1e-4, atol=1e-7)
    assert (alpha[-1], sigma[-1]) == (0.0, 1.0)


@pytest.mark.parametrize("schedule", NAMES)
def test_tables_compose_to_one_and_cannot_be_changed(schedule):
    alpha, sigma = alpha_sigma_tables(schedule, 1000)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-14)
    assert sigma[0] == 0.0
    assert np.all(np.diff(sigma) > 0)
    with pytest.raises(ValueError, match="read-only"):
        alpha[0] = 0.0
