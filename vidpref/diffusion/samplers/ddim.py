"""DDIM and the samplers that are special cases of it."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers.chain import Chain
from vidpref.typing import Array, Float, Int


def ddim(chain: Chain) -> Float[Array, "b t h w c"]:
    """Denoising diffusion implicit model (Song et al. 2021, eq. 12 and 16).

    Written for any process: the added variance is `eta^2` times that of the process's own reverse
    step `q(x_next | x_tau, x0)`.
    """
    if not 0.0 <= chain.eta <= 1.0:
        raise ValueError(f"eta={chain.eta}: ddim takes 0 (deterministic) to 1 (ancestral)")
    return _ddim(chain, chain.times[1:])


def ddpm(chain: Chain) -> Float[Array, "b t h w c"]:
    """Ancestral sampling with the smaller of the two variances (Ho et al. 2020, eq. 7).

    Its posterior mean and variance are those of DDIM at eta = 1 (Song et al. 2021, section 4.1).
    """
    if chain.eta not in (0.0, 1.0):
        raise ValueError(f"eta={chain.eta}: ddpm has no eta; use sampler='ddim' to set one")
    return ddim(dataclasses.replace(chain, eta=1.0))


def euler(chain: Chain) -> Float[Array, "b t h w c"]:
    """Euler's method for `dx / dtau = velocity`, as FlowMatchEulerDiscreteScheduler of diffusers.

    On a rectified flow `x + (tau' - tau) velocity` is `(1 - tau') x0 + tau' eps`: DDIM at eta = 0.
    """
    if not isinstance(chain.process, RectifiedFlow):
        raise ValueError(
            "euler follows the velocity of a RectifiedFlow, not of a "
            f"{type(chain.process).__name__}: use 'ddim' or 'unipc'"
        )
    if chain.eta != 0.0:
        raise ValueError(f"eta={chain.eta}: euler adds no noise; use sampler='ddim' to set an eta")
    return ddim(chain)


def cogvideox_ddim(chain: Chain) -> Float[Array, "b t h w c"]:
    """CogVideoXDDIMScheduler of diffusers, which is DDIM at eta = 0 whatever eta it is given."""
    if chain.eta != 0.0:
        raise ValueError(f"eta={chain.eta}: cogvideox_ddim adds no noise; use sampler='ddim'")
    return _ddim(chain, times_after_cogvideox_steps(chain))


def still_step(
    chain: Chain, x: Float[Array, "b t h w c"], index: int | Int[Array, ""]
) -> Float[Array, "b t h w c"]:
    """Returns the state behind one step of DDIM at eta = 0, from the state before it.

    On a rectified flow that is Euler's step. All steps, one after the other, are `ddim(chain)`.

    Args:
        chain: its network, process and times.
        x: state before the step.
        index: which step.
    """
    alpha, sigma = chain.process.alpha_sigma(chain.times[1:])
    tau, of_x0, of_eps = (jnp.asarray(w, x.dtype)[index] for w in (chain.times[:-1], alpha, sigma))
    x0, eps = chain.predict(x, tau)
    return of_x0 * x0 + of_eps * eps


def times_after_cogvideox_steps(chain: Chain) -> Float[np.ndarray, " steps"]:
    """Returns the times that the steps of CogVideoX's samplers lead to.

    Both of its schedulers step by `1000 // steps`, down to the clean clip. These are the times of
    the next calls only where `steps` divides 1000 and the spacing is "trailing".

    Raises:
        ValueError: the process is no DDPM.
    """
    process = chain.process
    if not isinstance(process, DDPM):
        raise ValueError(
            f"CogVideoX's samplers step through a DDPM, not a {type(process).__name__}"
        )
    n = np.rint(chain.times[:-1] * process.steps)
    return np.maximum(n - process.steps // chain.steps, 0.0) / process.steps


def _ddim(chain: Chain, after: Float[np.ndarray, " steps"]) -> Float[Array, "b t h w c"]:
    """DDIM whose steps lead to the times `after`."""
    tau = chain.times[:-1]
    (alpha, sigma), (alpha_after, sigma_after) = map(chain.process.alpha_sigma, (tau, after))
    kept = (alpha / alpha_after) ** 2  # share of the next step's signal left at this one
    variance = (sigma**2 - kept * sigma_after**2) * (sigma_after / sigma) ** 2
    added = chain.eta * np.sqrt(np.maximum(variance, 0.0))
    left = np.sqrt(np.maximum(sigma_after**2 - added**2, 0.0))

    def step(
        x: Array, index: Array, tau: Array, of_x0: Array, of_eps: Array, of_noise: Array
    ) -> Array:
        x0, eps = chain.predict(x, tau)
        x = of_x0 * x0 + of_eps * eps
        return x + of_noise * chain.fresh_noise(index) if chain.eta > 0 else x

    return chain.scan(step, chain.noise, tau, alpha_after, left, added)
