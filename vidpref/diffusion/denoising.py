"""The one loss of every method: how far a network is from denoising each clip."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from vidpref.diffusion.conversions import check_kind, error_factor
from vidpref.diffusion.process import Process
from vidpref.typing import Array, Float, Key

REDUCTIONS = ("mean", "sum")


@flax.struct.dataclass
class Corrupted:
    """k clips of each prompt, corrupted alike.

    Attributes:
        clips: clean.
        x_tau: corrupted.
        eps: the noise that the clips of a prompt share.
        tau: the time that they share.
    """

    clips: Float[Array, "b k t h w c"]
    x_tau: Float[Array, "b k t h w c"]
    eps: Float[Array, "b t h w c"]
    tau: Float[Array, " b"]


def corrupt_clips(
    process: Process, rng: Key[Array, ""], clips: Float[Array, "b k t h w c"]
) -> Corrupted:
    """Corrupts all clips of a prompt with one time and one noise.

    Sharing them takes their variance out of the difference of two clips' errors
    (Diffusion-DPO; VideoAlign appendix C).
    """
    time_rng, noise_rng = jax.random.split(rng)
    b, _, *clip_shape = clips.shape
    tau = process.sample_time(time_rng, b)
    eps = jax.random.normal(noise_rng, (b, *clip_shape))
    x_tau = jax.vmap(process.corrupt, in_axes=(1, None, None), out_axes=1)(clips, eps, tau)
    return Corrupted(clips=clips, x_tau=x_tau, eps=eps, tau=tau)


def denoising_error(
    denoise: Callable[[Array, Array, Any], Array],
    process: Process,
    corrupted: Corrupted,
    condition: Any,
    *,
    error_in: str | None = None,
    reduction: str = "mean",
) -> Float[Array, "b k"]:
    """Returns the squared error between output and target, of each clip, in float32.

    Args:
        denoise: `(x_tau [n, t, h, w, c], tau [n], condition) -> output`; called once, on all
            n = b k clips.
        process: gives the output its meaning.
        corrupted: what to denoise.
        condition: for the b prompts; `condition.repeat(k)` gives that of the n clips.
        error_in: measure in this prediction's space, by default the network's own. A network that
            predicts x0 with `error_in="v"` has its error weighted by `1 / (1 - abar)`.
        reduction: "mean" or "sum" over the elements of a clip. A DPO beta only means something
            together with it: beta under mean equals beta / elements under sum.

    Raises:
        ValueError: an unknown reduction or prediction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r}: known are {', '.join(REDUCTIONS)}")
    error_in = error_in or process.prediction
    check_kind(error_in, "error_in")
    b, k, *clip_shape = corrupted.clips.shape
    tau = jnp.repeat(corrupted.tau, k)
    eps = jnp.repeat(corrupted.eps, k, axis=0)
    clips = corrupted.clips.reshape(b * k, *clip_shape)
    x_tau = corrupted.x_tau.reshape(b * k, *clip_shape)

    output = denoise(x_tau, tau, condition.repeat(k)).astype(jnp.float32)
    difference = output - process.target(clips, eps, tau)
    reduce = jnp.mean if reduction == "mean" else jnp.sum
    error = reduce(jnp.square(difference), axis=(1, 2, 3, 4))

    factor = error_factor(process.prediction, error_in, *process.alpha_sigma(tau))
    return (error * factor).reshape(b, k)
