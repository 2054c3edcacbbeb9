"""What a policy learns from in a group of judged clips: pure functions of arrays."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vidpref.objectives.policy_gradient import AdvantageRule, group_advantages
from vidpref.typing import Array, Bool, Float, Int, PyTree

Scores = Mapping[str, Float[Array, "b g"]]
# `(drawn, scores) -> (batch, metrics)`
Learnt = Callable[[Mapping[str, PyTree], Scores], tuple[PyTree, dict[str, Array]]]

_TRAJECTORIES = ("states", "log_probs", "first_step")
_DRAWN = ("clips", "not_finite", "scene", *_TRAJECTORIES)  # the rest is seen by the network


def trajectories(weights: Mapping[str, float], rule: AdvantageRule) -> Learnt:
    """Returns what makes batches of `TrajectoryLoss`: every step of every clip, with its advantage.

    Args:
        weights: of the scores in the reward; those of others are only measured.
        rule: how rewards become advantages.
    """

    def learnt(drawn: Mapping[str, PyTree], scores: Scores) -> tuple[PyTree, dict[str, Array]]:
        advantage, metrics = _compared(scores, weights, rule)
        kept = {name: drawn[name] for name in _TRAJECTORIES if name in drawn}
        return _seen(drawn) | kept | {"advantage": advantage}, metrics

    return learnt


def clip_rows(
    rows: str,
    weights: Mapping[str, float],
    *,
    normalize: bool = False,
    motion: tuple[str, ...] = (),
    advantages: AdvantageRule | None = None,
) -> Learnt:
    """Returns what makes batches of `AlignmentLoss`; a row without a meaning gets weight 0.

    Args:
        rows: "fresh": all clips, b g rows of one; "fresh_pairs": the best and the worst of every
            group, b rows of two, of weight 0 where all are alike; "fresh_winners": the best.
        weights: of the scores in the reward; a clip that lacks one of them is left out.
        normalize: rewards of all clips get mean 0 and deviation 1.
        motion: scores that rows have besides, for McDPO.
        advantages: of rows "fresh", whose reward is then their advantage over the group, as a share
            of the largest; a group without a difference has 0.
    """

    def learnt(drawn: Mapping[str, PyTree], scores: Scores) -> tuple[PyTree, dict[str, Array]]:
        reward = sum(weight * scores[name] for name, weight in weights.items())
        known = jnp.isfinite(reward)
        for name in motion:
            known &= jnp.isfinite(scores[name])
        how = advantages or AdvantageRule(known.shape[1])
        advantage, metrics = _compared(scores, weights, how)
        if advantages is not None:
            return _all(drawn, advantage / how.largest, known), metrics
        if rows == "fresh":
            return _all(drawn, _normalised(reward, known) if normalize else reward, known), metrics
        best = jnp.where(known, reward, -jnp.inf).argmax(axis=1)
        worst = jnp.where(known, reward, jnp.inf).argmin(axis=1)
        chosen = jnp.stack([best, worst], axis=1)
        ranked = jnp.where(known.any(axis=1)[:, None], _take(reward, chosen), 0.0)
        differ = (ranked[:, 0] > ranked[:, 1]).astype(jnp.float32)
        if rows == "fresh_winners":
            chosen, ranked = chosen[:, :1], ranked[:, :1]
        batch = {"clips": _take(drawn["clips"], chosen), "reward": ranked, "weight": differ}
        if motion:
            taken = [_take(scores[name], chosen) for name in motion]
            batch["motion"] = jnp.nan_to_num(jnp.stack(taken, axis=-1))
        return _seen(drawn) | batch, metrics

    return learnt


def _all(drawn: Mapping[str, PyTree], reward: Array, known: Bool[Array, "b g"]) -> dict:
    b, g = known.shape
    seen = jax.tree.map(lambda x: jnp.repeat(x, g, axis=0), _seen(drawn))
    return seen | {
        "clips": drawn["clips"].reshape(b * g, 1, *drawn["clips"].shape[2:]),
        "reward": jnp.where(known, reward, 0.0).reshape(b * g, 1),
        "weight": known.reshape(b * g).astype(jnp.float32),
    }


def _normalised(reward: Float[Array, "b g"], known: Bool[Array, "b g"]) -> Float[Array, "b g"]:
    count = jnp.maximum(known.sum(), 1)
    mean = jnp.where(known, reward, 0.0).sum() / count
    square = jnp.where(known, jnp.square(reward - mean), 0.0).sum() / count
    return (reward - mean) / jnp.maximum(jnp.sqrt(square), 1e-6)


def _take(x: Array, chosen: Int[Array, "b k"]) -> Array:
    index = chosen.reshape(*chosen.shape, *[1] * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1)


def _seen(drawn: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """What the network sees of the prompts, and the real clips beside them."""
    return {name: x for name, x in drawn.items() if name not in _DRAWN}


def _compared(
    scores: Scores, weights: Mapping[str, float], rule: AdvantageRule
) -> tuple[Array, dict[str, Array]]:
    """The advantages, and what is worth a line of metrics: of what is only measured the mean."""
    every = {name: weights.get(name, 0.0) for name in scores}
    advantage, metrics = group_advantages(scores, every, rule)
    told = ("reward_std", "failed")
    return advantage, {
        name: value
        for name, value in metrics.items()
        if (parts := name.partition("/"))[0] == "reward"
        or (not parts[1] and name != "unscored")
        or (parts[0] in told and parts[2] in weights)
    }
