"""Losses of reward models: pure functions of the scores that two clips got in d dimensions.

A loss is the mean over all labels that count: those that say something to the loss and are not
masked. The others change neither the sum nor the number it is divided by; with `masks="official"`
they add nothing to the sum and stay in the number, as in VideoAlign's public code.
"""

import enum
import math

import jax
import jax.numpy as jnp

from vidpref.typing import Array, Bool, Float, Int


class Preference(enum.IntEnum):
    """What a label says of clips A and B in one dimension. Any other number counts as INVALID."""

    A = 0
    B = 1
    TIE = 2
    INVALID = 3


Metrics = dict[str, Array]
MASKS = ("valid", "official")


def bradley_terry(
    scores_a: Float[Array, "b d"],
    scores_b: Float[Array, "b d"],
    labels: Int[Array, "b d"],
    mask: Bool[Array, "b d"] | None = None,
    *,
    masks: str = "valid",
) -> tuple[Float[Array, ""], Metrics]:
    """Bradley-Terry: `-log sigmoid(r_winner - r_loser)` (VideoAlign 3.2). Ties do not count.

    Args:
        scores_a, scores_b: scores of the two clips of each pair.
        labels: members of `Preference`.
        mask: False takes a label out, such as that of a padding row.
        masks: see above, one of `MASKS`.

    Returns:
        The loss and its metrics; see `pair_metrics`.
    """
    decided = decided_labels(labels, mask)
    sign = jnp.where(labels == Preference.A, 1.0, -1.0)
    losses = jax.nn.softplus(-sign * (scores_a - scores_b))
    metrics = pair_metrics(scores_a, scores_b, labels, mask)
    return _loss(losses, decided, masks), metrics


def bradley_terry_ties(
    scores_a: Float[Array, "b d"],
    scores_b: Float[Array, "b d"],
    labels: Int[Array, "b d"],
    mask: Bool[Array, "b d"] | None = None,
    *,
    theta: float,
    masks: str = "valid",
) -> tuple[Float[Array, ""], Metrics]:
    """Bradley-Terry with ties: minus the log probability of the label (VideoAlign eq. 2).

    Args:
        scores_a, scores_b, labels, mask, masks: as for `bradley_terry`.
        theta: above 1; the larger, the more ties (VideoAlign: 5).

    Returns:
        The loss and its metrics; see `pair_metrics`.

    Raises:
        ValueError: theta is not a finite number above 1.
    """
    counted = (labels == Preference.A) | (labels == Preference.B) | (labels == Preference.TIE)
    log_probabilities = outcome_log_probabilities(scores_a, scores_b, theta=theta)
    outcome = jnp.where(counted, labels, 0)[..., None]
    losses = -jnp.take_along_axis(log_probabilities, outcome, axis=-1)[..., 0]
    metrics = pair_metrics(scores_a, scores_b, labels, mask)
    return _loss(losses, _kept(counted, mask), masks), metrics


def outcome_log_probabilities(
    scores_a: Float[Array, "b d"], scores_b: Float[Array, "b d"], *, theta: float
) -> Float[Array, "b d 3"]:
    """Log probabilities of A, B and TIE, in the order of `Preference` (Rao and Kupper 1967).

    VideoAlign's eq. 1 prints theta on the winner's side in the two decided cases, with which the
    three would not sum to 1; theta belongs to the loser, as here.

    Raises:
        ValueError: theta is not a finite number above 1.
    """
    if not 1.0 < theta < math.inf:
        raise ValueError(f"theta={theta} must be a finite number above 1; at 1 there are no ties")
    margin = scores_a - scores_b
    a_wins = jax.nn.log_sigmoid(margin - math.log(theta))
    b_wins = jax.nn.log_sigmoid(-margin - math.log(theta))
    tie = a_wins + b_wins + math.log(theta**2 - 1.0)
    return jnp.stack([a_wins, b_wins, tie], axis=-1)


def regression(
    scores: Float[Array, "b d"],
    ratings: Float[Array, "b d"],
    mask: Bool[Array, "b d"] | None = None,
    *,
    masks: str = "valid",
) -> tuple[Float[Array, ""], Metrics]:
    """Squared error of a clip's scores to its ratings, such as Likert 1 to 5 (VideoAlign 3.2).

    Args:
        scores: scores of the model.
        ratings: ratings of the annotators; where masked they may be anything, NaN too.
        mask: False takes a rating out.
        masks: as for `bradley_terry`.

    Returns:
        The loss and its metrics: `absolute_error` of each dimension [d].
    """
    rated = _kept(jnp.ones(scores.shape, bool), mask)
    difference = jnp.where(rated, scores - jnp.where(rated, ratings, 0.0), 0.0)
    return _loss(jnp.square(difference), rated, masks), {
        "absolute_error": _mean(jnp.abs(difference), rated, axis=0)
    }


def pair_metrics(
    scores_a: Float[Array, "b d"],
    scores_b: Float[Array, "b d"],
    labels: Int[Array, "b d"],
    mask: Bool[Array, "b d"] | None = None,
) -> Metrics:
    """How well scores order the pairs, of each dimension [d].

    Returns:
        `accuracy`, the share of decided labels (A or B) whose winner scores higher, equal scores
        counted as half, 0.5 where nothing is decided; `decided` and `tied`, the shares of all
        labels; `margin`, mean `|r_a - r_b|` over the decided.
    """
    decided = decided_labels(labels, mask)
    margin = scores_a - scores_b
    right = 0.5 + 0.5 * jnp.sign(jnp.where(labels == Preference.A, margin, -margin))
    return {
        "accuracy": jnp.where(decided.any(axis=0), _mean(right, decided, axis=0), 0.5),
        "decided": decided.mean(axis=0),
        "tied": _kept(labels == Preference.TIE, mask).mean(axis=0),
        "margin": _mean(jnp.abs(margin), decided, axis=0),
    }


def decided_labels(
    labels: Int[Array, "b d"], mask: Bool[Array, "b d"] | None = None
) -> Bool[Array, "b d"]:
    """Returns which labels have a winner, A or B, and are not masked: those that train."""
    return _kept((labels == Preference.A) | (labels == Preference.B), mask)


def _kept(valid: Bool[Array, "b d"], mask: Bool[Array, "b d"] | None) -> Bool[Array, "b d"]:
    return valid if mask is None else valid & mask


def _loss(losses: Array, counted: Array, masks: str) -> Array:
    """Mean over what is counted, or over all with zeros for the rest."""
    if masks not in MASKS:
        raise ValueError(f"masks={masks!r} is unknown; known are {', '.join(MASKS)}")
    if masks == "valid":
        return _mean(losses, counted)
    return jnp.where(counted, losses, 0.0).mean()


def _mean(values: Array, counted: Array, axis: int | None = None) -> Array:
    """Mean over what is counted; 0 where nothing is."""
    total = jnp.where(counted, values, 0.0).sum(axis)
    return total / jnp.maximum(counted.sum(axis), 1)
