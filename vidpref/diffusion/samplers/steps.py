"""What the steps of all samplers are made of: the network's prediction, and fresh noise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.process import Process
from vidpref.typing import Array, Float, Int, Key

Denoise = Callable[[Array, Array], Array]


def predict(
    process: Process,
    denoise: Denoise,
    x_tau: Float[Array, "b t h w c"],
    tau: Float[Array, ""],
    clip_x0: float | None,
) -> tuple[Float[Array, "b t h w c"], Float[Array, "b t h w c"]]:
    """Calls the network once; returns the clean clips and the noise that its output implies.

    After clipping, the noise is derived from the clipped clip anew, so that both always compose to
    `x_tau`.
    """
    tau = jnp.full(x_tau.shape[:1], tau)
    output = denoise(x_tau, tau).astype(x_tau.dtype)
    x0, eps = process.to_x0(output, x_tau, tau), process.to_noise(output, x_tau, tau)
    if clip_x0 is not None:
        x0 = jnp.clip(x0, -clip_x0, clip_x0)
        eps = process.convert(x0, x_tau, tau, source="x0", to="eps")
    return x0, eps


def half_log_snr(
    alpha: Float[np.ndarray, " entries"], sigma: Float[np.ndarray, " entries"]
) -> Float[np.ndarray, " entries"]:
    """Returns `log(alpha / sigma)`, the time in which exponential integrators step.

    Minus infinity without signal, plus infinity without noise.
    """
    with np.errstate(divide="ignore"):
        return np.log(alpha) - np.log(sigma)


# One key a clip, or the noise of every step itself.
Fresh = Key[Array, " b"] | Float[Array, "b steps t h w c"]


def check_rng(rng: Fresh | None) -> None:
    """Raises ValueError if there are no keys to draw noise from."""
    if rng is None:
        raise ValueError("this sampler adds noise: pass rng, one key for each clip of the batch")


def step_noise(
    rng: Fresh, index: int | Int[Array, ""], clip_shape: tuple[int, ...]
) -> Float[Array, " b *clip"]:
    """Returns the noise added after network call `index`, each clip's from its own key."""
    if not jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
        return rng[:, index]
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), clip_shape))(rng)
