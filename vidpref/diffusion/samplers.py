"""From noise to clips: one function a sampler, the same signature for all."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.process import Process
from vidpref.typing import Array, Float, Int, Key

Denoise = Callable[[Array, Array], Array]


def sample(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    sampler: str,
    steps: int,
    eta: float = 0.0,
    rng: Key[Array, " b"] | None = None,
    clip_x0: float | None = None,
) -> Float[Array, "b t h w c"]:
    """Draws one clip from each row of `noise`.

    Args:
        process: the noise process that the network was trained on.
        denoise: `(x_tau [b, t, h, w, c], tau [b]) -> output`, a closure over parameters and
            condition; the output means `process.prediction`.
        noise: standard normal, where the chain starts.
        sampler: name in `SAMPLERS`.
        steps: network calls.
        eta: of "ddim": 0 is deterministic, 1 is as random as "ddpm".
        rng: one key a clip for samplers that add noise; a clip depends on its own key alone, never
            on its neighbours in the batch.
        clip_x0: clip the predicted clean clip to [-clip_x0, clip_x0] at every step.

    Raises:
        ValueError: an unknown sampler, an `eta` it does not take, or noise to add and no `rng`.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r}: known are {', '.join(SAMPLERS)}")
    return SAMPLERS[sampler](
        process, denoise, noise, steps=steps, eta=eta, rng=rng, clip_x0=clip_x0
    )


def ddim(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Key[Array, " b"] | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """Denoising diffusion implicit model (Song et al. 2021, eq. 12 and 16).

    Written for any process: the added variance is `eta^2` times that of the process's own reverse
    step `q(x_next | x_tau, x0)`. After clipping, the noise is derived from the clipped clip anew,
    so that both always compose to `x_tau`.
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta={eta}: ddim takes 0 (deterministic) to 1 (ancestral)")
    if eta > 0 and rng is None:
        raise ValueError("this sampler adds noise: pass rng, one key for each clip of the batch")

    tau = process.sampling_times(steps)
    alpha, sigma = process.alpha_sigma(tau)
    kept = (alpha[:-1] / alpha[1:]) ** 2  # share of the next step's signal left at this one
    variance = (sigma[:-1] ** 2 - kept * sigma[1:] ** 2) * (sigma[1:] / sigma[:-1]) ** 2
    added = eta * np.sqrt(np.maximum(variance, 0.0))
    left = np.sqrt(np.maximum(sigma[1:] ** 2 - added**2, 0.0))
    weights = [w.astype(np.float32) for w in (tau[:-1], alpha[1:], left, added)]

    def step(x: Array, now: tuple[Array, list[Array]]) -> tuple[Array, None]:
        index, (tau, of_x0, of_eps, of_noise) = now
        tau = jnp.full(x.shape[:1], tau)
        output = denoise(x, tau).astype(x.dtype)
        x0, eps = process.to_x0(output, x, tau), process.to_noise(output, x, tau)
        if clip_x0 is not None:
            x0 = jnp.clip(x0, -clip_x0, clip_x0)
            eps = process.convert(x0, x, tau, source="x0", to="eps")
        x_next = of_x0 * x0 + of_eps * eps
        if eta > 0:
            x_next += of_noise * step_noise(rng, index, x.shape[1:]).astype(x.dtype)
        return x_next, None

    clips, _ = jax.lax.scan(step, noise, (jnp.arange(steps), weights))
    return clips


def ddpm(
    process: Process,
    denoise: Denoise,
    noise: Float[Array, "b t h w c"],
    *,
    steps: int,
    eta: float,
    rng: Key[Array, " b"] | None,
    clip_x0: float | None,
) -> Float[Array, "b t h w c"]:
    """Ancestral sampling with the smaller of the two variances (Ho et al. 2020, eq. 7).

    Its posterior mean and variance are those of DDIM at eta = 1 (Song et al. 2021, section 4.1).
    """
    if eta not in (0.0, 1.0):
        raise ValueError(f"eta={eta}: ddpm has no eta; use sampler='ddim' to set one")
    return ddim(process, denoise, noise, steps=steps, eta=1.0, rng=rng, clip_x0=clip_x0)


SAMPLERS = {"ddim": ddim, "ddpm": ddpm}


def step_noise(
    rng: Key[Array, " b"], index: int | Int[Array, ""], clip_shape: tuple[int, ...]
) -> Float[Array, " b *clip"]:
    """Returns the noise added after network call `index`, each clip's from its own key."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), clip_shape))(rng)
