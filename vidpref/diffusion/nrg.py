"""Reward guidance while sampling: Noisy Reward Guidance (VideoAlign 4.4, appendices B.2 and C).

A reward r tilts the distribution sampled from: `p(x_tau) exp(w r(x_tau, tau))` has the score
`grad log p + w grad r`. What that adds to a network's output follows from the output's relation to
the score: eps is `-sigma score`, and every other prediction follows from eps.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.config.nearest import nearest
from vidpref.diffusion.conversions import scale_rows
from vidpref.diffusion.process import Process
from vidpref.diffusion.samplers.chain import Denoise
from vidpref.typing import Array, Float

Reward = Callable[[Array, Array], Array]

_NO_SIGNAL = 1e-4  # an alpha below which x_tau is pure noise


def noise_reward_guidance(
    denoise: Denoise,
    reward: Reward,
    process: Process,
    weights: Float[Array, " d"],
    *,
    scale: float,
) -> Denoise:
    """Guides a sampler by a reward of the noisy clip (VideoAlign eq. 11).

    A velocity becomes `v - scale tau / (1 - tau) grad r`; a noise `eps - sigma scale grad r`, which
    is classifier guidance (Dhariwal and Nichol 2021, algorithm 2); others see `score_shift`.

    Args:
        denoise: `(x_tau [b, t, h, w, c], tau [b]) -> output`, with classifier-free guidance or not.
        reward: `(x_tau, tau) -> [b, d]`, a closure over parameters and condition, in which no row
            depends on another. A model trained on clean clips alone can stand here for an ablation,
            as `lambda x, tau: apply(params, x, 0 * tau, condition)`.
        process: the noise process of both.
        weights: weights of the d dimensions in r; see `dimension_weights`.
        scale: strength of the guidance; 0 leaves the reward out.

    Returns:
        `denoise(x_tau, tau)` that samples from the tilted distribution.
    """
    if scale == 0:
        return denoise

    def guided(x_tau: Array, tau: Array) -> Array:
        gradient = jax.grad(lambda x: _weighted_sum(reward(x, tau), weights))(x_tau)
        return denoise(x_tau, tau) + score_shift(process, scale * gradient, tau)

    return guided


def clean_reward_guidance(
    denoise: Denoise,
    reward: Reward,
    process: Process,
    weights: Float[Array, " d"],
    *,
    scale: float,
) -> Denoise:
    """Guides by the reward of the clean clip that the network predicts (VideoAlign appendix E).

    The gradient is that of `r(x0(x_tau))` by x_tau, through the network: x0(x_tau) is the posterior
    mean, so this is the tilt's score with `E[exp r(x0)]` taken as `exp r(E[x0])`. The gradient by
    x0 alone would leave out how x0 follows from x_tau, and would not be the score of any
    distribution. The price is a backward pass of the generator in each step.

    Args:
        denoise, process, weights, scale: see `noise_reward_guidance`.
        reward: `(x0, tau) -> [b, d]`, called with tau = 0.
    """
    if scale == 0:
        return denoise

    def guided(x_tau: Array, tau: Array) -> Array:
        def reward_of(x: Array) -> tuple[Array, Array]:
            output = denoise(x, tau)
            x0 = process.to_x0(output, x, tau)
            return _weighted_sum(reward(x0, jnp.zeros_like(tau)), weights), output

        gradient, output = jax.grad(reward_of, has_aux=True)(x_tau)
        return output + score_shift(process, scale * gradient, tau)

    return guided


def score_shift(
    process: Process, score: Float[Array, " b *clip"], tau: Float[Array, " b"]
) -> Float[Array, " b *clip"]:
    """Returns what adding `score` to `grad log p(x_tau)` adds to the network's output.

    To eps `-sigma score`, to x0 `sigma^2 / alpha score`, to v and velocity their linear forms of
    these two. Where alpha < 1e-4 it is 0: pure noise says nothing of the clip, and `1 / alpha` has
    no bound. VideoAlign skips tau = 1; some grids start just below (see `RectifiedFlow.spacing`).
    """
    alpha, sigma = process.alpha_sigma(tau)
    eps = scale_rows(jnp.where(alpha < _NO_SIGNAL, 0.0, -sigma), score)
    # a conversion is affine in the output; at x_tau = 0 only its linear part is left
    origin = jnp.zeros_like(score)
    return process.convert(eps, origin, tau, source="eps", to=process.prediction)


def dimension_weights(
    weights: Mapping[str, float | int], dims: Sequence[str]
) -> Float[np.ndarray, " d"]:
    """Returns the weights in the order of the reward's dimensions; one not named weighs 0.

    Raises:
        ValueError: a name that is no dimension, or a weight that is not finite.
    """
    for name, weight in weights.items():
        if name not in dims:
            raise ValueError(
                f"weights has {name!r}, which is no dimension of the reward; "
                f"{nearest(name, dims, cutoff=0.4)}"
            )
        if not math.isfinite(weight):
            raise ValueError(f"weights: {name}={weight} must be finite")
    return np.array([weights.get(name, 0.0) for name in dims], np.float32)


def _weighted_sum(rewards: Float[Array, "b d"], weights: Float[Array, " d"]) -> Float[Array, ""]:
    # rows are independent, so the gradient of the sum over rows is that of each row's own reward
    return (rewards * weights[None]).sum()
