"""Advantages: how much better an answer is than the others to its prompt."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vidpref.config.nearest import nearest
from vidpref.config.online import ORDERS, SCALES
from vidpref.typing import Array, Bool, Float

_EPSILON = 1e-4  # added to a standard deviation, as in TRL's and Flow-GRPO's code

Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class AdvantageRule:
    """How rewards become advantages.

    Attributes:
        group: answers to a prompt, g.
        scale: what differences to the group's mean are divided by: the standard deviation of the
            "group" (GRPO), that of the "batch", or nothing ("none", Dr. GRPO).
        order: of several rewards. "sum_then_normalise" adds them up first (McSc), where one of a
            wide spread drowns the others; "normalise_then_sum" gives each its own mean and
            deviation (GDPO, without its second normalisation over the batch).
        largest: no advantage is larger, up or down (Flow-GRPO's code: 5).

    Raises:
        ValueError: a group of one, an unknown name, or a value out of range.
    """

    group: int
    scale: str = "group"
    order: str = "sum_then_normalise"
    largest: float = math.inf

    def __post_init__(self):
        if self.group < 2:
            raise ValueError(
                f"group={self.group}: an answer is compared with others to its prompt; 2 or more"
            )
        for field, known in (("scale", SCALES), ("order", ORDERS)):
            name = getattr(self, field)
            if name not in known:
                raise ValueError(f"{field}={name!r} is unknown; {nearest(name, known)}")
        if not self.largest > 0:
            raise ValueError(f"largest={self.largest}: must be above 0")

    def prompts(self, answers: int) -> int:
        """Returns the number of prompts whose groups make up so many answers.

        Raises:
            ValueError: they do not.
        """
        if answers < 1 or answers % self.group:
            near = max(answers // self.group, 1) * self.group
            raise ValueError(
                f"{answers} answers are no whole groups of {self.group}: take {near} or "
                f"{near + self.group}, or another group"
            )
        return answers // self.group


def group_advantages(
    rewards: Mapping[str, Float[Array, "b g"]],
    weights: Mapping[str, float],
    rule: AdvantageRule,
    prompt_weight: Float[Array, " b"] | None = None,
) -> tuple[Float[Array, "b g"], Metrics]:
    """Returns `(r - mean of the group) / (std + 1e-4)` (GRPO, Shao et al. 2024, section 4.1.2).

    Deviations are those of a sample (n - 1), as in TRL and verl. Where all rewards of a group are
    equal, its advantages are exactly 0. All of it is over the global batch, so call it where that
    is, in a rollout, and not in the loss of a microbatch.

    A reward that is not finite has failed for its answer, which neither mean nor deviation sees.
    Such an answer has no part in that reward where rewards are normalised apart, and an advantage
    of 0 where they are added up first: what failed is not a bad mark.

    Args:
        rewards: of each answer, by name.
        weights: of the same names; a reward of weight 0 is only measured.
        rule: see `AdvantageRule`.
        prompt_weight: 0 takes a padding prompt out of everything. None: all count.

    Returns:
        The advantages, and metrics: `zero_spread_groups`, share of the groups that teach nothing;
        `advantage_std` over the answers; `unscored`, share of the answers that have no advantage
        as rewards failed. By reward, behind a slash: `reward`, its mean; `reward_std`, the mean of
        the groups' deviations; `zero_spread`, share of groups without any; `failed`, share of
        answers.

    Raises:
        ValueError: no reward that counts, other names than those of the weights, a weight that is
            not finite, or groups of another size than the rule's. Before anything is computed.
    """
    _check(rewards, weights, rule)
    shape = next(iter(rewards.values())).shape
    present = jnp.ones(shape, bool)
    if prompt_weight is not None:
        present = jnp.broadcast_to((prompt_weight > 0)[:, None], shape)
    rewards = {name: jnp.asarray(r, jnp.float32) for name, r in rewards.items()}
    counting = {name: weight for name, weight in weights.items() if weight}
    apart = {name: _normalised(r, present, rule.scale) for name, r in rewards.items()}
    if rule.order == "normalise_then_sum":
        advantages = sum(weight * apart[name][0] for name, weight in counting.items())
        scored = jnp.stack([jnp.isfinite(rewards[name]) for name in counting]).any(axis=0)
    else:
        total = sum(weight * rewards[name] for name, weight in counting.items())
        advantages, _, scored = _normalised(total, present, rule.scale)
    advantages = jnp.clip(advantages, -rule.largest, rule.largest)

    groups, scored = present.any(axis=1), scored & present
    mean = _share(advantages, scored)
    metrics = {
        "zero_spread_groups": _share((advantages == 0).all(axis=1), groups),
        "advantage_std": jnp.sqrt(_share(jnp.square(advantages - mean), scored)),
        "unscored": _share(~scored, present),
    }
    for name, (_, std, known) in apart.items():
        metrics |= {
            f"reward/{name}": _share(rewards[name], known),
            f"reward_std/{name}": _share(std, groups),
            f"zero_spread/{name}": _share(std == 0, groups),
            f"failed/{name}": _share(~known, present),
        }
    return jax.lax.stop_gradient(advantages), metrics


def _normalised(
    rewards: Float[Array, "b g"], present: Bool[Array, "b g"], scale: str
) -> tuple[Float[Array, "b g"], Float[Array, " b"], Bool[Array, "b g"]]:
    """Advantages of one reward, its deviation in each group, and which answers have it."""
    scored = present & jnp.isfinite(rewards)
    count = scored.sum(axis=1, keepdims=True)
    mean = jnp.where(scored, rewards, 0.0).sum(axis=1, keepdims=True) / jnp.maximum(count, 1)
    largest = jnp.where(scored, rewards, -jnp.inf).max(axis=1, keepdims=True)
    smallest = jnp.where(scored, rewards, jnp.inf).min(axis=1, keepdims=True)
    # equal rewards are not always equal to their rounded mean
    difference = jnp.where(scored & (largest > smallest), rewards - mean, 0.0)
    squares = jnp.square(difference).sum(axis=1, keepdims=True)
    std = jnp.sqrt(squares / jnp.maximum(count - 1, 1))
    divisor = {"group": std + _EPSILON, "none": 1.0}.get(scale)
    if divisor is None:
        every = jnp.where(scored, rewards - _share(rewards, scored), 0.0)
        of_batch = jnp.square(every).sum() / jnp.maximum(scored.sum() - 1, 1)
        divisor = jnp.sqrt(of_batch) + _EPSILON
    return difference / divisor, std[:, 0], scored


def _share(values: Array, counted: Bool[Array, "*b"]) -> Float[Array, ""]:
    """Mean over what is counted; 0 where nothing is."""
    return jnp.where(counted, values, 0.0).sum() / jnp.maximum(counted.sum(), 1)


def _check(rewards: Mapping[str, Array], weights: Mapping[str, float], rule: AdvantageRule) -> None:
    for name in (*rewards, *weights):
        if name not in rewards:
            raise ValueError(
                f"a weight is given to the reward {name!r}, which nobody gives; "
                f"{nearest(name, rewards)}"
            )
        if name not in weights:
            raise ValueError(f"the reward {name!r} has no weight; {nearest(name, weights)}")
        if not math.isfinite(weights[name]):
            raise ValueError(f"the weight of {name!r} is {weights[name]}: must be a finite number")
    if not any(weights.values()):
        raise ValueError("no reward counts: give one of them a weight that is not 0")
    for name, values in rewards.items():
        if values.shape[1] != rule.group:
            raise ValueError(
                f"{name!r} has {values.shape[1]} rewards a prompt, and group={rule.group}"
            )
