import numpy as np
import pytest
from diffusers import DDPMScheduler

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


@pytest.mark.parametrize("schedule", NAMES)
def test_tables_compose_to_one_and_cannot_be_changed(schedule):
    alpha, sigma = alpha_sigma_tables(schedule, 1000)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-14)
    assert sigma[0] == 0.0
    assert np.all(np.diff(sigma) > 0)
    with pytest.raises(ValueError, match="read-only"):
        alpha[0] = 0.0
