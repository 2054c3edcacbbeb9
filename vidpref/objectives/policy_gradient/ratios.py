"""What the loss makes of log-ratios: clipped ratios, and estimates of a divergence."""

import jax.numpy as jnp

from vidpref.typing import Array, Bool, Float

LEVELS = ("token", "sequence")
ESTIMATORS = ("k1", "k2", "k3")
_LARGEST = 20.0  # of a log-ratio: its exponential stays a number, far beyond any clip


def ratios(
    difference: Float[Array, "b g n"], mask: Bool[Array, "b g n"], level: str
) -> Float[Array, "b g n"]:
    """Returns the ratios of the draws: each its own, or all that of their answer.

    Args:
        difference: log-probability of the policy less that of the one that drew; 0 where masked.
        mask: draws that count.
        level: "token", or "sequence" for the exponential of the mean difference of an answer.
    """
    if level == "sequence":
        count = jnp.maximum(mask.sum(axis=2, keepdims=True), 1)
        mean = difference.sum(axis=2, keepdims=True) / count
        difference = jnp.broadcast_to(mean, difference.shape)
    return jnp.exp(jnp.clip(difference, -_LARGEST, _LARGEST))


def clipped(
    ratio: Float[Array, "b g n"],
    advantages: Float[Array, "b g 1"],
    bounds: tuple[float, float],
    dual_clip: float | None,
) -> tuple[Bool[Array, "b g n"], Bool[Array, "b g n"], Float[Array, "b g n"]]:
    """Returns which ratios are clipped below and above, and the ratios that the loss uses.

    A ratio that has gone far enough in the direction of its advantage is a constant. What `min`
    and `clip` would do at their corners is then no question: there the gradient is whole.
    """
    smallest, largest = bounds
    low = (advantages < 0) & (ratio < smallest)
    high = (advantages > 0) & (ratio > largest)
    used = jnp.where(low, smallest, jnp.where(high, largest, ratio))
    if dual_clip is not None:
        too_far = (advantages < 0) & (ratio > dual_clip)
        high, used = high | too_far, jnp.where(too_far, dual_clip, used)
    return low, high, used


def divergence(log_ratio: Float[Array, "b g n"], estimator: str) -> Float[Array, "b g n"]:
    """Returns an estimate at each draw of the KL divergence of p from q, of draws from p.

    Args:
        log_ratio: `log(q / p)` of what was drawn.
        estimator: "k1", "k2" or "k3".
    """
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * jnp.square(log_ratio)
    log_ratio = jnp.minimum(log_ratio, _LARGEST)
    return jnp.expm1(log_ratio) - log_ratio
