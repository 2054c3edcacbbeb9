"""DPM-Solver++ for the reverse stochastic equation, second order with one step of history."""

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.process import Process
from vidpref.diffusion.samplers.steps import (
    Denoise,
    check_rng,
    half_log_snr,
    predict,
    step_noise,
)
from vidpref.typing import Array, Float, Key


def cogvideox_dpm(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Key[Array, " b"] | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++") as CogVideoXDPMScheduler of diffusers.

    The first and the last step are of first order. Written for any process. As `cogvideox_ddim`,
    equal to diffusers where `steps` divides the length of the chain.
    """
    if eta not in (0.0, 1.0):
        raise ValueError(f"eta={eta}: cogvideox_dpm has no eta; it always adds noise")
    check_rng(rng)

    tau = process.sampling_times(steps)
    alpha, sigma = process.alpha_sigma(tau)
    h = np.diff(half_log_snr(alpha, sigma))
    of_x = sigma[1:] / sigma[:-1] * np.exp(-h)
    of_x0 = -alpha[1:] * np.expm1(-2.0 * h)
    of_noise = sigma[1:] * np.sqrt(-np.expm1(-2.0 * h))
    slope = np.zeros(steps)  # of the clip over half a step; none where there is no history
    slope[1:-1] = 0.5 * h[1:-1] / h[:-2]
    weights = [w.astype(np.float32) for w in (tau[:-1], of_x, of_x0, of_noise, slope)]

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
