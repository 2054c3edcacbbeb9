"""Objectives on a winner and its losers: Diffusion-DPO, Flow-DPO, RealDPO, VideoDPO and McDPO.

d is a clip's policy error less its reference error. Which method it is lies in the space of the
errors (noise for Diffusion-DPO, velocity for Flow-DPO, x0 for RealDPO) and in the options.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vidpref.objectives.alignment.errors import Errors, Labels, Metrics, real_error, row_mean
from vidpref.typing import Array, Float

_SATURATED = 4.0  # |logit| beyond which the sigmoid passes less than 2 % of its gradient


def dpo(
    errors: Errors,
    labels: Labels,
    *,
    beta: float,
    nll_weight: float = 0.0,
    real_weight: float = 0.0,
    time_power: float = 0.0,
    pair_weight: str = "",
    pair_weight_power: float = 1.0,
    pair_weight_reference: float = 1.0,
    pair_weight_cap: float = 10.0,
) -> tuple[Float[Array, ""], Metrics]:
    """Diffusion-DPO, the reverse-BT projection: `-log sigmoid(-beta/2 (d_w - d_l))`.

    The 1/2 stands in all public code (Diffusion-DPO, flow_grpo, VideoDPO, RealDPO) and in
    VideoAlign's eq. 6. AIF's eq. 7, IPO's eq. 9 and RealDPO's eq. 6 print none: where the formula
    is meant, twice their beta is ours. The papers print squared norms, a sum over a clip; public
    code takes the mean, as `reduction="mean"` does. Under the sum, the same beta is stronger by the
    number of elements.

    On velocity errors it is Flow-DPO (VideoAlign eq. 6). With a real clip as winner and several
    losers it is RealDPO (eq. 6); its code sums over the losers, ours is the mean, which Adam does
    not feel. That code weighs x0 errors by 1 / (1 - abar): those of v, not of x0.

    Args:
        errors: errors of a winner and one or more losers, with those of the reference; the loss is
            the mean over the losers.
        labels: their rewards count for `pair_weight="gap"` only, `pair_score` for "probability".
        beta: strength of the pull towards the reference; its scale goes with the reduction of the
            errors (mean or sum) and their space: x0 errors are far smaller than those of the noise
            for which papers choose it. `leash` tells.
        nll_weight: adds this much of the winner's error ("DPO + NLL"; 0.2 in IPO eq. 9), against
            the drift in which both errors grow.
        real_weight: adds this much of the error on real clips (0.1 in IPO eq. 9).
        time_power: beta is multiplied by `(1 - tau)^time_power`; 2 turns velocity errors into
            those of the noise (VideoAlign eq. 6 and lemma B.1), 0 is a constant beta.
        pair_weight: what each term is multiplied by; large gaps weigh more in both. "gap" is
            `((r_w - r_l) / reference)^power`. "probability" is VideoDPO's `(reference / p)^power`,
            p the product of the histogram probabilities of the pair's scores (its `dupfactor`, with
            a reference of 0.72): pairs far apart are rare. "" weighs all alike.
        pair_weight_power, pair_weight_reference: see `pair_weight`.
        pair_weight_cap: no pair weighs more.

    Returns:
        The loss and its metrics: `saturation`, mean `beta |d_w - d_l|` (a run far above 8 has a
        dead sigmoid, one near 0 has not moved); `saturated_fraction`, pairs whose
        `beta/2 |d_w - d_l|` exceeds 4; `leash`, mean `beta` times the reference's error of the
        winner (see `leash_warning`); `pair_accuracy`, pairs where the policy moved towards the
        winner, ties counted as half; `margin`, mean `d_l - d_w`; and the four mean errors.
    """
    moved = errors.policy - errors.reference
    margin = moved[:, 1:] - moved[:, :1]
    strength = (
        beta * (1.0 - errors.tau) ** time_power if time_power else jnp.full_like(errors.tau, beta)
    )
    weight = jnp.ones_like(margin)
    if pair_weight:
        relative = (
            pair_weight_reference / labels.pair_score[:, None]
            if weighs_by_probability({"pair_weight": pair_weight})
            else (labels.reward[:, :1] - labels.reward[:, 1:]) / pair_weight_reference
        )
        # the cap comes first: a gap of 0 has no slope at powers below 1
        weight = jnp.clip(relative, 0.0, pair_weight_cap ** (1.0 / pair_weight_power))
        weight = jnp.broadcast_to(weight**pair_weight_power, margin.shape)
    return _pairwise(errors, labels, margin, strength[:, None], weight, nll_weight, real_weight)


def mcdpo(
    errors: Errors,
    labels: Labels,
    *,
    beta: float,
    object_motion: float = 1.0,
    camera_motion: float = 1.0,
    nll_weight: float = 0.0,
    real_weight: float = 0.0,
) -> tuple[Float[Array, ""], Metrics]:
    """McDPO (McSc eq. 5-6): `-log sigmoid(-beta/2 (w_w d_w - w_l d_l))`.

    `w_w = 1/2 + sigmoid((om_w - om_l) + (cm_w - cm_l))` and `w_l = 2 - w_w`: a winner that moves
    more than the loser counts more, so that a judge's liking for still clips is not learnt.

    McSc prints no 1/2: twice its beta is ours, unless its code, which is not public, has the 1/2 as
    VideoDPO's trainer does; then both are alike. The printed norms are sums; see `dpo`.

    As the paper writes it the loss also rewards drift: where the winner moves less, w_w is below 1,
    and `w_l d_l - w_w d_w` grows as both errors grow alike. Watch `error_winner` beside
    `reference_error_winner`.

    Args:
        errors: errors of winner and loser, with those of the reference.
        labels: `motion` holds the object and camera motion scores.
        beta: see `dpo`.
        object_motion, camera_motion: factors of the two differences; both 0 is `dpo`.
        nll_weight, real_weight: see `dpo`.

    Returns:
        As `dpo`; `margin` is `w_l d_l - w_w d_w`; `winner_weight` is the mean of w_w.
    """
    moved = errors.policy - errors.reference
    motion = labels.motion[:, 0] - labels.motion[:, 1]
    factors = jnp.array([object_motion, camera_motion])
    winner = 0.5 + jax.nn.sigmoid((motion * factors[None]).sum(axis=-1))
    margin = (2.0 - winner) * moved[:, 1] - winner * moved[:, 0]
    strength = jnp.full_like(errors.tau, beta)
    loss, metrics = _pairwise(
        errors,
        labels,
        margin[:, None],
        strength[:, None],
        jnp.ones_like(margin)[:, None],
        nll_weight,
        real_weight,
    )
    return loss, metrics | {"winner_weight": row_mean(winner, labels)}


def weighs_by_probability(hyper: Mapping[str, object]) -> bool:
    """Whether `dpo` with these hyper-parameters reads `Labels.pair_score`."""
    return hyper.get("pair_weight") == "probability"


def _pairwise(
    errors: Errors,
    labels: Labels,
    margin: Float[Array, "b n"],
    strength: Float[Array, "b 1"],
    weight: Float[Array, "b n"],
    nll_weight: float,
    real_weight: float,
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of each winner against its n losers, with what is added to it."""

    def mean(x: Float[Array, "b n"]) -> Float[Array, ""]:
        return row_mean(x.mean(axis=1), labels)

    logit = 0.5 * strength * margin
    winner = mean(errors.policy[:, :1])
    real, metrics = real_error(errors, labels, real_weight)
    loss = mean(weight * jax.nn.softplus(-logit)) + nll_weight * winner + real
    return loss, metrics | {
        "error": mean(errors.policy),
        "error_winner": winner,
        "error_loser": mean(errors.policy[:, 1:]),
        "reference_error_winner": mean(errors.reference[:, :1]),
        "reference_error_loser": mean(errors.reference[:, 1:]),
        "margin": mean(margin),
        "pair_accuracy": mean(0.5 + 0.5 * jnp.sign(margin)),
        "saturation": mean(strength * jnp.abs(margin)),
        "leash": mean(strength * errors.reference[:, :1]),
        "saturated_fraction": mean((jnp.abs(logit) > _SATURATED).astype(jnp.float32)),
    }
