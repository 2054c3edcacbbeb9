"""Objectives that only raise likelihoods: supervised fine-tuning and reward-weighted regression."""

import jax.numpy as jnp

from vidpref.objectives.alignment.errors import Errors, Labels, Metrics, real_error, row_mean
from vidpref.typing import Array, Float


def sft(
    errors: Errors, labels: Labels, *, real_weight: float = 0.0
) -> tuple[Float[Array, ""], Metrics]:
    """Supervised fine-tuning, and pre-training: the error of the first clip.

    Args:
        errors: errors of k >= 1 clips a row, the first of which counts.
        labels: the weights of rows.
        real_weight: adds this much of the error on real clips beside the rows.
    """
    loss = row_mean(errors.policy[:, 0], labels)
    real, metrics = real_error(errors, labels, real_weight)
    return loss + real, {"error": loss, **metrics}


def rwr(
    errors: Errors, labels: Labels, *, eta: float, gamma: float, real_weight: float = 0.0
) -> tuple[Float[Array, ""], Metrics]:
    """Reward-weighted regression, the forward-EM projection (AIF eq. 6): `(eta r + gamma) e`.

    The linear transform of the reward stands where the projection has exp(r / beta) (AIF section
    3.2). A clip of negative weight is pushed away without bound: choose gamma against it and watch
    `negative_weights`. The paper prints a squared norm, a sum over a clip; with the mean only the
    scale of the loss differs, which Adam does not feel.

    Args:
        errors: errors of k >= 1 clips a row, all of which count.
        labels: the clips' rewards.
        eta: scale of the reward.
        gamma: added to it.
        real_weight: as of `sft`.
    """
    weight = eta * labels.reward + gamma
    loss, metrics = _weighted(errors, labels, weight, real_weight)
    return loss, metrics | {"negative_weights": row_mean((weight < 0).mean(axis=1), labels)}


def flow_rwr(
    errors: Errors, labels: Labels, *, beta: float, real_weight: float = 0.0
) -> tuple[Float[Array, ""], Metrics]:
    """Flow-RWR (VideoAlign eq. 9): `exp(r / beta) e`, with the error of the velocity.

    beta is a temperature of rewards: neither the reduction (eq. 9 prints a squared norm) nor the
    1/2 of `dpo` has to do with it.

    The weights are not normalised: rewards should be (mean 0, deviation 1), or `weight_max` will
    show that few clips carry the loss.

    Args:
        errors: errors of k >= 1 clips a row, all of which count.
        labels: the clips' rewards.
        beta: temperature of the weights.
        real_weight: as of `sft`. Of fresh clips alone, whose weights are all positive, a policy
            learns its own mistakes step after step.
    """
    weight = jnp.exp(labels.reward / beta)
    loss, metrics = _weighted(errors, labels, weight, real_weight)
    counts = jnp.ones_like(errors.tau) if labels.weight is None else labels.weight > 0
    return loss, metrics | {"weight_max": (weight * counts[:, None]).max()}


def _weighted(
    errors: Errors, labels: Labels, weight: Float[Array, "b k"], real_weight: float
) -> tuple[Float[Array, ""], Metrics]:
    loss = row_mean((weight * errors.policy).mean(axis=1), labels)
    real, metrics = real_error(errors, labels, real_weight)
    return loss + real, {
        "error": row_mean(errors.policy.mean(axis=1), labels),
        "weight": row_mean(weight.mean(axis=1), labels),
        **metrics,
    }
