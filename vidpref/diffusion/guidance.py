"""Guidance: a condition bound to a network, as a `denoise(x_tau, tau)` that samplers call."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.diffusion.conversions import scale_rows
from vidpref.typing import Array, PyTree


def classifier_free(
    denoise_with_condition: Callable[[Array, Array, PyTree], Array],
    condition: PyTree,
    scale: float | Callable[[Array], Array],
) -> Callable[[Array, Array], Array]:
    """Classifier-free guidance on the text: `u + scale (c - u)` (Ho and Salimans 2022).

    c is the output with text, u without. All kinds of prediction differ by affine maps that c and u
    share, so it does not matter which the network makes.

    Args:
        denoise_with_condition: `(x_tau [b, t, h, w, c], tau [b], condition) -> output`.
        condition: arrays with b rows, and `without_text()` for the unconditional branch.
        scale: 1.0 leaves the second branch out; a function gives every row's scale from tau [b].

    Returns:
        `denoise(x_tau, tau)`; both branches are one call on 2b rows.
    """
    if scale == 1.0:
        return lambda x_tau, tau: denoise_with_condition(x_tau, tau, condition)
    both = jax.tree.map(_interleave, condition, condition.without_text())

    def denoise(x_tau: Array, tau: Array) -> Array:
        output = denoise_with_condition(_interleave(x_tau, x_tau), _interleave(tau, tau), both)
        with_text, without_text = output[0::2], output[1::2]
        now = scale(tau) if callable(scale) else jnp.full(tau.shape, scale, output.dtype)
        return without_text + scale_rows(now, with_text - without_text)

    return denoise


def cogvideox_dynamic(scale: float, steps: int, chain: int = 1000) -> Callable[[Array], Array]:
    """Returns the scale at tau [b] as CogVideoXPipeline of diffusers with `use_dynamic_cfg`.

    `1 + scale (1 - cos(pi ((N - n) / N)^5)) / 2` with N the number of sampler steps and n the step
    of the whole chain, as in diffusers; it is not monotone when N < n.

    Args:
        scale: scale of the guidance.
        steps: steps of the sampler.
        chain: steps of the whole chain, of which tau says the n-th.
    """
    n = np.arange(-1, chain)  # diffusers counts from 0, tau = 1 / chain being the first
    turns = ((steps - n) / steps) ** 5.0
    scales = (1 + scale * (1 - np.cos(np.pi * turns)) / 2).astype(np.float32)
    return lambda tau: jnp.asarray(scales)[jnp.rint(tau * chain).astype(int)]


def _interleave(first: Array, second: Array) -> Array:
    """Rows of both in turn: the two branches of a row stay on that row's device."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])
