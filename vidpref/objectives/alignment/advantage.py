"""Objectives of clips that the old policy drew, by their advantage over the others of a prompt.

Both look at clean clips alone, so any sampler may have drawn them. `Errors.reference` is the old
policy's error, and `Labels.reward` the share of the largest advantage, in [-1, 1].
"""

import jax
import jax.numpy as jnp

from vidpref.objectives.alignment.errors import Errors, Labels, Metrics, row_mean
from vidpref.objectives.policy_gradient import Draws, PolicyGradient, policy_gradient
from vidpref.typing import Array, Float

_LEAST = 1e-5  # of the root of an error that another is divided by, as in the public code


def diffusion_nft(
    errors: Errors, labels: Labels, *, beta: float, kl: float = 0.0
) -> tuple[Float[Array, ""], Metrics]:
    """DiffusionNFT (Zheng et al. 2025, arXiv 2509.16117).

    With the outputs o of the policy and o' of the old one, `o+ = (1 - beta) o' + beta o` should
    denoise good clips and `o- = (1 + beta) o' - beta o` bad ones:
    `(q |o+ - target|^2 + (1 - q) |o- - target|^2) / beta`, where `q = (1 + r) / 2` and r is the
    share of the largest advantage. Each error is divided by its own root, which no gradient goes
    through (the paper's adaptive weights, by the root of the mean square where the public code
    takes the mean of the absolute values).

    Only errors are looked at: `|o+ - target|^2 = (1 - beta) e' + beta e - beta (1 - beta) d` with
    the errors e and e' and the squared distance d of the two outputs, and for o- with -beta.

    Args:
        errors: errors and distance of k >= 1 clips a row, all of which count.
        labels: the clips' advantages.
        beta: how far o+ and o- are from the old policy, in steps of the new one's.
        kl: weight of `Errors.moved`, the divergence from the pre-trained policy: that of two steps
            of a sampler, but for a factor of its time (the public code: 1e-4).

    Returns:
        The loss and its metrics: `error`, `error_old`, `distance` of the two; `divergence` and
        `divergence_old`, of the policy and of the old one from the pre-trained.

    Raises:
        ValueError: a weight of a divergence that was not measured.
    """
    good = _between(errors, beta)
    bad = _between(errors, -beta)
    share = (1.0 + labels.reward) / 2.0
    terms = (share * _by_own_root(good) + (1.0 - share) * _by_own_root(bad)) / beta
    if kl and errors.moved is None:
        raise ValueError(f"kl={kl}: a divergence needs the outputs of the pre-trained policy")
    loss, metrics = row_mean(terms.mean(axis=1), labels), _metrics(errors, labels)
    if errors.moved is not None:
        metrics["divergence"] = row_mean(errors.moved.mean(axis=1), labels)
        metrics["divergence_old"] = row_mean(errors.reference_moved.mean(axis=1), labels)
        loss = loss + kl * metrics["divergence"]
    return loss, metrics


def awm(errors: Errors, labels: Labels, *, clip: float) -> tuple[Float[Array, ""], Metrics]:
    """Advantage-weighted matching (Xue et al. 2025, arXiv 2509.25050): `-min(q A, clip(q) A)`.

    The ratio `q = exp(e' - e)` of the policy and the old one has the denoising error in the place
    of a log-probability. Where they are the same it is 1, and the gradient that of `A e`; the old
    policy's forward pass then tells nothing new, and is made all the same.

    Args:
        errors: errors of k >= 1 clips a row, all of which count.
        labels: the clips' advantages.
        clip: how far the ratio may go from 1; it depends on the reduction of the errors.
    """
    rows = jnp.ones_like(errors.tau) if labels.weight is None else labels.weight
    draws = Draws(
        log_probs=-errors.policy[..., None],
        mask=jnp.ones((*errors.policy.shape, 1), bool),
        advantages=labels.reward,
        old=-errors.reference[..., None],
        prompt_weight=rows,
    )
    loss, metrics = policy_gradient(draws, PolicyGradient(clip_low=clip))
    shown = {name: metrics[name] for name in ("ratio", "clip_fraction")}
    return loss, _metrics(errors, labels) | shown


def _between(errors: Errors, beta: float) -> Float[Array, "b k"]:
    """Error of `(1 - beta) o' + beta o`."""
    old, distance = errors.reference, errors.distance
    return (1.0 - beta) * old + beta * errors.policy - beta * (1.0 - beta) * distance


def _by_own_root(error: Float[Array, "b k"]) -> Float[Array, "b k"]:
    root = jnp.sqrt(jnp.maximum(jax.lax.stop_gradient(error), 0.0))
    return error / jnp.maximum(root, _LEAST)


def _metrics(errors: Errors, labels: Labels) -> Metrics:
    old = row_mean(errors.reference.mean(axis=1), labels)
    metrics = {"error": row_mean(errors.policy.mean(axis=1), labels), "error_old": old}
    if errors.distance is not None:
        metrics["distance"] = row_mean(errors.distance.mean(axis=1), labels)
    return metrics
