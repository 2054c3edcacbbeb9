"""DPM-Solver++ for the reverse stochastic equation, second order with one step of history."""

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.process import Process
from vidpref.diffusion.samplers.ddim import cogvideox_times
from vidpref.diffusion.samplers.steps import (
    Denoise,
    Fresh,
    check_rng,
    half_log_snr,
    predict,
    step_noise,
)
from vidpref.typing import Array, Float


def cogvideox_dpm(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Fresh | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++") as CogVideoXDPMScheduler of diffusers.

    The first step and those to the clean clip are of first order.
    """
    if eta not in (0.0, 1.0):
        raise ValueError(f"eta={eta}: cogvideox_dpm has no eta; it always adds noise")
    check_rng(rng)

    tau, after = cogvideox_times(process, steps)
    (alpha, sigma), (alpha_after, sigma_after) = map(process.alpha_sigma, (tau, after))
    now = half_log_snr(alpha, sigma)
    h = half_log_snr(alpha_after, sigma_after) - now
    of_x = sigma_after / sigma * np.exp(-h)
    of_x0 = -alpha_after * np.expm1(-2.0 * h)
    of_noise = sigma_after * np.sqrt(-np.expm1(-2.0 * h))
    slope = np.zeros(steps)  # of the clip over half a step; none where there is no history
    second = (np.arange(steps) > 0) & (after > 0)
    slope[second] = 0.5 * h[second] / (now - np.roll(now, 1))[second]
    weights = [w.astype(np.float32) for w in (tau, of_x, of_x0, of_noise, slope)]

    def step(
        carry: tuple[Array, Array], now: tuple[Array, list[Array]]
    ) -> tuple[tuple[Array, Array], None]:
        x, before = carry
        index, (tau, of_x, of_x0, of_noise, slope) = now
        x0, _ = predict(process, denoise, x, tau, clip_x0)
        fresh = step_noise(rng, index, x.shape[1:]).astype(x.dtype)
        x_next = of_x * x + of_x0 * (x0 + slope * (x0 - before)) + of_noise * fresh
        return (x_next, x0), None

    start = (noise, jnp.zeros_like(noise))
    (clips, _), _ = jax.lax.scan(step, start, (jnp.arange(steps), weights))
    return clips
