"""DPM-Solver++ for the reverse stochastic equation, second order with one step of history."""

import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.samplers.chain import Chain, half_log_snr
from vidpref.diffusion.samplers.ddim import times_after_cogvideox_steps
from vidpref.typing import Array, Float


def cogvideox_dpm(chain: Chain) -> Float[Array, "b t h w c"]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++") as CogVideoXDPMScheduler of diffusers.

    The first step and those to the clean clip are of first order.
    """
    if chain.eta not in (0.0, 1.0):
        raise ValueError(f"eta={chain.eta}: cogvideox_dpm has no eta; it always adds noise")
    tau, after = chain.times[:-1], times_after_cogvideox_steps(chain)
    (alpha, sigma), (alpha_after, sigma_after) = map(chain.process.alpha_sigma, (tau, after))
    now = half_log_snr(alpha, sigma)
    h = half_log_snr(alpha_after, sigma_after) - now
    of_x = sigma_after / sigma * np.exp(-h)
    of_x0 = -alpha_after * np.expm1(-2.0 * h)
    of_noise = sigma_after * np.sqrt(-np.expm1(-2.0 * h))
    slope = np.zeros(chain.steps)  # of the clip over half a step; none where there is no history
    second = (np.arange(chain.steps) > 0) & (after > 0)
    slope[second] = 0.5 * h[second] / (now - np.roll(now, 1))[second]

    def step(
        state: tuple[Array, Array],
        index: Array,
        tau: Array,
        of_x: Array,
        of_x0: Array,
        of_noise: Array,
        slope: Array,
    ) -> tuple[Array, Array]:
        x, before = state
        x0, _ = chain.predict(x, tau)
        fresh = chain.fresh_noise(index)
        return of_x * x + of_x0 * (x0 + slope * (x0 - before)) + of_noise * fresh, x0

    start = chain.noise, jnp.zeros_like(chain.noise)
    clips, _ = chain.scan(step, start, tau, of_x, of_x0, of_noise, slope)
    return clips
