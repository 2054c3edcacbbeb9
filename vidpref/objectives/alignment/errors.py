"""What every objective sees: the denoising errors of some clips, and what is known of them."""

import flax.struct
import jax.numpy as jnp

from vidpref.typing import Array, Float

Metrics = dict[str, Array]


@flax.struct.dataclass
class Errors:
    """Denoising errors of the clips of b prompts.

    Attributes:
        policy: errors of the network in training.
        reference: errors of the reference policy, or None where the objective needs none.
        tau: diffusion time that the clips of a prompt share.
        real: errors of the network in training on m real clips beside each row, of other prompts.
        distance: squared distance between the outputs of the two, in the space of the errors.
        mismatched: reference error less policy error of the clips under another row's condition,
            for KTO's `reference_point="mismatched"`; no gradient goes through it.
        moved: squared distance of the network's output from that of the pre-trained policy.
        reference_moved: the same of the reference's output.
    """

    policy: Float[Array, "b k"]
    reference: Float[Array, "b k"] | None
    tau: Float[Array, " b"]
    real: Float[Array, "b m"] | None = None
    mismatched: Float[Array, "b k"] | None = None
    distance: Float[Array, "b k"] | None = None
    moved: Float[Array, "b k"] | None = None
    reference_moved: Float[Array, "b k"] | None = None


@flax.struct.dataclass
class Labels:
    """What is known of the clips.

    Attributes:
        reward: reward of each clip; of the objectives that learn from advantages, the clip's
            advantage over its group, as a share in [-1, 1] of the largest.
        weight: weight of each row in the mean; 0 takes a padding row out of it. None: all alike.
        motion: object and camera motion score of each clip, for McDPO.
        pair_score: probability of the scores of each row's pair, above 0, for VideoDPO's weights.
    """

    reward: Float[Array, "b k"]
    weight: Float[Array, " b"] | None = None
    motion: Float[Array, "b k 2"] | None = None
    pair_score: Float[Array, " b"] | None = None


def row_mean(rows: Float[Array, " b"], labels: Labels) -> Float[Array, ""]:
    """Returns the mean over the rows, weighted by `labels.weight`; 0 where all weights are 0."""
    if labels.weight is None:
        return rows.mean()
    total = labels.weight.sum()
    return (labels.weight * rows).sum() / jnp.where(total > 0, total, 1.0)


def real_error(errors: Errors, labels: Labels, real_weight: float) -> tuple[Array | float, Metrics]:
    """Returns `real_weight` times the mean error on real clips, and that error as a metric.

    IPO (eq. 7 and 9) keeps the policy at real data with it. Nothing where there are no real clips.
    """
    if errors.real is None:
        return 0.0, {}
    real = row_mean(errors.real.mean(axis=1), labels)
    return real_weight * real, {"error_real": real}
