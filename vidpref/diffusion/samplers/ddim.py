"""DDIM and the samplers that are special cases of it."""

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.process import Process
from vidpref.diffusion.samplers.steps import Denoise, Fresh, check_rng, predict, step_noise
from vidpref.typing import Array, Float


def ddim(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Fresh | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """Denoising diffusion implicit model (Song et al. 2021, eq. 12 and 16).

    Written for any process: the added variance is `eta^2` times that of the process's own reverse
    step `q(x_next | x_tau, x0)`.
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta={eta}: ddim takes 0 (deterministic) to 1 (ancestral)")
    tau = process.sampling_times(steps)
    times = tau[:-1], tau[1:]
    return _ddim(process, denoise, noise, times, eta=eta, rng=rng, clip_x0=clip_x0)


def _ddim(
    process: Process,
    denoise: Denoise,
    noise: Array,
    times: tuple[np.ndarray, np.ndarray],
    *,
    eta: float,
    rng: Fresh | None,
    clip_x0: float | None,
) -> Array:
    """DDIM over `times`: those of the network calls, and those that their steps lead to."""
    if eta > 0:
        check_rng(rng)
    tau, _ = times
    (alpha, sigma), (alpha_after, sigma_after) = map(process.alpha_sigma, times)
    kept = (alpha / alpha_after) ** 2  # share of the next step's signal left at this one
    variance = (sigma**2 - kept * sigma_after**2) * (sigma_after / sigma) ** 2
    added = eta * np.sqrt(np.maximum(variance, 0.0))
    left = np.sqrt(np.maximum(sigma_after**2 - added**2, 0.0))
    weights = [w.astype(np.float32) for w in (tau, alpha_after, left, added)]

    def step(x: Array, now: tuple[Array, list[Array]]) -> tuple[Array, None]:
        index, (tau, of_x0, of_eps, of_noise) = now
        x0, eps = predict(process, denoise, x, tau, clip_x0)
        x_next = of_x0 * x0 + of_eps * eps
        if eta > 0:
            x_next += of_noise * step_noise(rng, index, x.shape[1:]).astype(x.dtype)
        return x_next, None

    clips, _ = jax.lax.scan(step, noise, (jnp.arange(len(tau)), weights))
    return clips


def ddpm(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Fresh | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """Ancestral sampling with the smaller of the two variances (Ho et al. 2020, eq. 7).

    Its posterior mean and variance are those of DDIM at eta = 1 (Song et al. 2021, section 4.1).
    """
    if eta not in (0.0, 1.0):
        raise ValueError(f"eta={eta}: ddpm has no eta; use sampler='ddim' to set one")
    return ddim(process, denoise, noise, steps=steps, eta=1.0, rng=rng, clip_x0=clip_x0)


def euler(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Fresh | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """Euler's method for `dx / dtau = velocity`, as FlowMatchEulerDiscreteScheduler of diffusers.

    On a rectified flow `x + (tau' - tau) velocity` is `(1 - tau') x0 + tau' eps`: DDIM at eta = 0.
    """
    if not isinstance(process, RectifiedFlow):
        raise ValueError(
            f"euler follows the velocity of a RectifiedFlow, not of a {type(process).__name__}: "
            "use 'ddim' or 'unipc'"
        )
    if eta != 0.0:
        raise ValueError(f"eta={eta}: euler adds no noise; use sampler='ddim' to set an eta")
    return ddim(process, denoise, noise, steps=steps, eta=0.0, rng=rng, clip_x0=clip_x0)


def cogvideox_ddim(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Fresh | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """CogVideoXDDIMScheduler of diffusers, which is DDIM at eta = 0 whatever eta it is given."""
    if eta != 0.0:
        raise ValueError(f"eta={eta}: cogvideox_ddim adds no noise; use sampler='ddim'")
    times = cogvideox_times(process, steps)
    return _ddim(process, denoise, noise, times, eta=0.0, rng=rng, clip_x0=clip_x0)


def cogvideox_times(process: Process, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the times of CogVideoX's network calls and those that their steps lead to.

    Both of its schedulers step by `1000 // steps`, down to the clean clip. These are the times of
    the next calls only where `steps` divides 1000 and the spacing is "trailing".

    Raises:
        ValueError: the process is no DDPM.
    """
    if not isinstance(process, DDPM):
        raise ValueError(
            f"CogVideoX's samplers step through a DDPM, not a {type(process).__name__}"
        )
    tau = process.sampling_times(steps)[:-1]
    n = np.rint(tau * process.steps)
    return tau, np.maximum(n - process.steps // steps, 0.0) / process.steps
