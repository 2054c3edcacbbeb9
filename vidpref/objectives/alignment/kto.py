"""Diffusion-KTO: single clips that are desirable or not, against a reference point."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vidpref.objectives.alignment.errors import Errors, Labels, Metrics, real_error, row_mean
from vidpref.typing import Array, Float


def compares_mismatched(hyper: Mapping[str, object]) -> bool:
    """Whether the reference point is that of clips under another row's condition."""
    return hyper.get("reference_point") == "mismatched"


def kto(
    errors: Errors,
    labels: Labels,
    statistics: Mapping[str, Array] | None = None,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    threshold: float = 0.5,
    reference_point: str = "mean",
    real_weight: float = 0.0,
) -> tuple[Float[Array, ""], Metrics]:
    """Diffusion-KTO (IPO eq. 5-7): `lambda (1 - sigmoid(s beta (g - Q)))`, `g = e_ref - e_theta`.

    s is +1 for a desirable clip and -1 for an undesirable one; Q estimates how far the policy has
    moved from the reference (a KL divergence, hence clamped at 0), and no gradient goes through it.
    There is no 1/2 beside beta, in the paper and in the public code of Diffusion-KTO alike.

    - "mean": g over the batch, clamped; the public code's default (`bce_offset=none`).
    - "balanced": the mean of the two classes' means of g, not clamped (`bce_offset=sigmoid`): as
      "mean", but a class of few clips counts as much as the other.
    - "mismatched": g with each clip under another row's condition, of the same microbatch where
      gradients are accumulated; clamped, as in KTO's own code. That of Diffusion-KTO (`original`)
      does not clamp it.
    - "own_class": each clip against the mean of its own class, clamped. Of no paper, for ablations
      only: Q follows its class, so the loss never has enough and desirable clips are pushed as hard
      at the end as at the start.

    Args:
        errors: errors of single clips, with those of the reference.
        labels: a clip is desirable where its reward exceeds `threshold`.
        statistics: statistics of the global batch, from `kto_statistics`; None takes those of this
            batch, which is the global one unless gradients are accumulated.
        beta: strength; its scale goes with the reduction of the errors.
        desirable_weight, undesirable_weight: lambda of each class, against unequal counts.
        threshold: see `labels`.
        reference_point: which Q; see below.
        real_weight: adds this much of the error on real clips (lambda of IPO eq. 7).

    Returns:
        The loss and its metrics: `reference_point`, Q (the mean of both classes' where they have
        one each); `moved_desirable` and `moved_undesirable`, mean g of each class; `desirable`, its
        fraction; `saturation`, mean `beta |g - Q|`; `leash`, mean `beta` times the reference's
        error; `error`.
    """
    statistics = kto_statistics(errors, labels, threshold) if statistics is None else statistics
    good = labels.reward > threshold
    moved = errors.reference - errors.policy
    mean = {name: _ratio(statistics, name) for name in ("desirable", "undesirable", "all")}
    if reference_point == "own_class":
        point = jnp.where(good, mean["desirable"], mean["undesirable"])
    elif reference_point == "balanced":
        point = jnp.full_like(moved, 0.5 * (mean["desirable"] + mean["undesirable"]))
    elif reference_point == "mismatched":
        point = jnp.full_like(moved, _ratio(statistics, "mismatched"))
    else:
        point = jnp.full_like(moved, mean["all"])
    point = jax.lax.stop_gradient(point)
    point = point if reference_point == "balanced" else jnp.maximum(point, 0.0)
    sign = jnp.where(good, 1.0, -1.0)
    weight = jnp.where(good, desirable_weight, undesirable_weight)
    rows = weight * jax.nn.sigmoid(-sign * beta * (moved - point))
    real, metrics = real_error(errors, labels, real_weight)
    return row_mean(rows.mean(axis=1), labels) + real, metrics | {
        "error": row_mean(errors.policy.mean(axis=1), labels),
        "reference_point": row_mean(point.mean(axis=1), labels),
        "moved_desirable": mean["desirable"],
        "moved_undesirable": mean["undesirable"],
        "desirable": row_mean(good.astype(jnp.float32).mean(axis=1), labels),
        "leash": row_mean((beta * errors.reference).mean(axis=1), labels),
        "saturation": row_mean((beta * jnp.abs(moved - point)).mean(axis=1), labels),
    }


def kto_statistics(
    errors: Errors, labels: Labels, threshold: float = 0.5, **_: object
) -> dict[str, Float[Array, ""]]:
    """Returns sums and counts of g over the batch, by class: what the reference point is made of.

    They add up: the mean of the statistics of equal microbatches is that of the whole batch, up to
    a factor that cancels.

    Args:
        errors, labels, threshold: see `kto`.
    """
    moved = jax.lax.stop_gradient(errors.reference - errors.policy)
    weight = jnp.ones_like(errors.tau) if labels.weight is None else labels.weight
    good = (labels.reward > threshold).astype(moved.dtype) * weight[:, None]
    every = jnp.ones_like(moved) * weight[:, None]
    groups = {"desirable": good, "undesirable": every - good, "all": every}
    found = {}
    for name, mask in groups.items():
        found[f"{name}_sum"], found[f"{name}_count"] = (mask * moved).sum(), mask.sum()
    if errors.mismatched is not None:
        found["mismatched_sum"] = (every * jax.lax.stop_gradient(errors.mismatched)).sum()
        found["mismatched_count"] = every.sum()
    return found


def _ratio(statistics: Mapping[str, Array], name: str) -> Float[Array, ""]:
    count = statistics[f"{name}_count"]
    return statistics[f"{name}_sum"] / jnp.where(count > 0, count, 1.0)
