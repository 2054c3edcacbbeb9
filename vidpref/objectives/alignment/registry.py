"""Alignment objectives: pure functions of the denoising errors of k clips of each prompt.

The errors are those of `vidpref.diffusion.denoising`; clip 0 of a row is the winner. A loss is the
mean over the rows of the global batch, weighted by `Labels.weight` where it is given.
"""

import dataclasses
import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp

from vidpref.typing import Array, Float

_SATURATED = 4.0  # |logit| beyond which the sigmoid passes less than 2 % of its gradient


@flax.struct.dataclass
class Errors:
    """Denoising errors of the clips of b prompts.

    Attributes:
        policy: of the network in training.
        reference: of the frozen reference, or None where the objective needs none.
        tau: diffusion time that the clips of a prompt share.
    """

    policy: Float[Array, "b k"]
    reference: Float[Array, "b k"] | None
    tau: Float[Array, " b"]


@flax.struct.dataclass
class Labels:
    """What is known of the clips.

    Attributes:
        reward: of each clip.
        weight: of each row in the mean; 0 takes a padding row out of it. None: all alike.
    """

    reward: Float[Array, "b k"]
    weight: Float[Array, " b"] | None = None


Metrics = dict[str, Array]


def sft(errors: Errors, labels: Labels) -> tuple[Float[Array, ""], Metrics]:
    """Supervised fine-tuning, and pre-training: the error of the first clip."""
    loss = _mean(errors.policy[:, 0], labels)
    return loss, {"error": loss}


def rwr(
    errors: Errors, labels: Labels, *, eta: float, gamma: float
) -> tuple[Float[Array, ""], Metrics]:
    """Reward-weighted regression, the forward-EM projection (AIF eq. 6): `(eta r + gamma) e`.

    The linear transform of the reward stands where the projection has exp(r / beta) (AIF section
    3.2). A clip of negative weight is pushed away without bound: choose gamma against it and watch
    `negative_weights`.

    Args:
        errors: of k >= 1 clips a row, all of which count.
        labels: the clips' rewards.
        eta: scale of the reward.
        gamma: added to it.
    """
    weight = eta * labels.reward + gamma
    loss = _mean((weight * errors.policy).mean(axis=1), labels)
    return loss, {
        "error": _mean(errors.policy.mean(axis=1), labels),
        "weight": _mean(weight.mean(axis=1), labels),
        "negative_weights": _mean((weight < 0).mean(axis=1), labels),
    }


def dpo(
    errors: Errors, labels: Labels, *, beta: float, nll_weight: float = 0.0
) -> tuple[Float[Array, ""], Metrics]:
    """Diffusion-DPO, the reverse-BT projection: `-log sigmoid(-beta/2 (d_w - d_l))`.

    d is a clip's policy error less its reference error. The 1/2 is that of Diffusion-DPO's public
    code; AIF's eq. 7 prints none, so its beta there is half of ours.

    Args:
        errors: of winner and loser, with those of the reference.
        labels: only the row weights count.
        beta: strength of the pull towards the reference; its scale goes with the reduction of the
            errors (mean or sum).
        nll_weight: adds this much of the winner's error ("DPO + NLL"), against the drift in which
            both errors grow.

    Returns:
        The loss and its metrics: `saturation`, mean `beta |d_w - d_l|` (a run far above 8 has a
        dead sigmoid, one near 0 has not moved); `saturated_fraction`, pairs whose
        `beta/2 |d_w - d_l|` exceeds 4; `pair_accuracy`, pairs where the policy moved towards the
        winner, ties counted as half; `margin`, mean `d_l - d_w`; and the four mean errors.
    """
    moved = errors.policy - errors.reference
    margin = moved[:, 1] - moved[:, 0]
    logit = 0.5 * beta * margin
    winner = _mean(errors.policy[:, 0], labels)
    loss = _mean(jax.nn.softplus(-logit), labels) + nll_weight * winner
    return loss, {
        "error": _mean(errors.policy.mean(axis=1), labels),
        "error_winner": winner,
        "error_loser": _mean(errors.policy[:, 1], labels),
        "reference_error_winner": _mean(errors.reference[:, 0], labels),
        "reference_error_loser": _mean(errors.reference[:, 1], labels),
        "margin": _mean(margin, labels),
        "pair_accuracy": _mean(0.5 + 0.5 * jnp.sign(margin), labels),
        "saturation": _mean(beta * jnp.abs(margin), labels),
        "saturated_fraction": _mean((jnp.abs(logit) > _SATURATED).astype(jnp.float32), labels),
    }


@dataclasses.dataclass(frozen=True)
class ObjectiveSpec:
    """An objective as the rest of the house sees it.

    Attributes:
        fn: `(errors, labels, **hyper) -> (loss, metrics)`.
        needs_reference: whether `Errors.reference` must be there.
        k: clips of a row.
        ranges: for each hyper-parameter "> 0" or ">= 0".
    """

    fn: Callable[..., tuple[Array, Metrics]]
    needs_reference: bool
    k: int
    ranges: Mapping[str, str]


OBJECTIVES = {
    "sft": ObjectiveSpec(sft, needs_reference=False, k=1, ranges={}),
    "rwr": ObjectiveSpec(rwr, needs_reference=False, k=1, ranges={"eta": "> 0", "gamma": ">= 0"}),
    "dpo": ObjectiveSpec(
        dpo, needs_reference=True, k=2, ranges={"beta": "> 0", "nll_weight": ">= 0"}
    ),
}


def check_hyper(name: str, hyper: Mapping[str, object]) -> None:
    """Checks an objective's name and hyper-parameters before anything runs.

    Raises:
        ValueError: an unknown objective or field (with the nearest right one), a field that is
            missing, not a finite number, or out of its range.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective {name!r} is unknown. {_nearest(name, OBJECTIVES)}")
    spec = OBJECTIVES[name]
    for field, value in hyper.items():
        if field not in spec.ranges:
            raise ValueError(f"{name} has no field {field!r}. {_nearest(field, spec.ranges)}")
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ValueError(f"{name}: {field}={value!r} must be a finite number")
        if value < 0 or (value == 0 and spec.ranges[field] == "> 0"):
            raise ValueError(f"{name}: {field}={value!r} must be {spec.ranges[field]}")
    parameters = inspect.signature(spec.fn).parameters
    for field in spec.ranges:
        if field not in hyper and parameters[field].default is inspect.Parameter.empty:
            raise ValueError(f"{name}: {field} is missing; it must be {spec.ranges[field]}")


def _nearest(word: str, known: Mapping) -> str:
    if not known:
        return "It takes no hyper-parameters."
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0]
    return f"Did you mean {near!r}? Known: {', '.join(known)}."


def _mean(rows: Float[Array, " b"], labels: Labels) -> Float[Array, ""]:
    if labels.weight is None:
        return rows.mean()
    total = labels.weight.sum()
    return (labels.weight * rows).sum() / jnp.where(total > 0, total, 1.0)
