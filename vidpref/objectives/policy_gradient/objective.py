"""The policy gradient: one loss for a language model's tokens and a generator's sampling steps."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from vidpref.config.nearest import nearest
from vidpref.objectives.policy_gradient.advantages import Metrics
from vidpref.objectives.policy_gradient.aggregation import (
    AGGREGATIONS,
    aggregate,
    draw_count,
    loss_count,
)
from vidpref.objectives.policy_gradient.ratios import (
    ESTIMATORS,
    LEVELS,
    clipped,
    divergence,
    ratios,
)
from vidpref.typing import Array, Bool, Float

DIVERGENCES = (*ESTIMATORS, "exact")


@flax.struct.dataclass
class Draws:
    """What a policy drew: g answers to each of b prompts, n draws each, with their likelihood.

    An answer is a text and its draws are tokens, or it is a clip and its draws are the steps of a
    stochastic sampler. Log-probabilities are of what was drawn, with everything by which it was:
    temperature, top-p, guidance. Where `mask` is False they may be anything, NaN too.

    Attributes:
        log_probs: of the policy in training; the gradient goes through these and `kl` alone.
        mask: which draws are there; False behind an answer's end.
        advantages: of each answer, from `group_advantages`.
        old: those of the policy that drew, by the forward pass of training. None where each answer
            is learnt from once: the policy is then the one that drew, and ratios are exactly 1.
        reference: those of the policy that training is held to.
        kl: the divergence from that policy at each draw where it is known in closed form, as of
            two Gaussian steps; for `divergence="exact"`.
        sampler: those that the sampler gave, which are only compared.
        entropy: of the distribution that each draw is from; only measured.
        ended: answers that came to their end and were not cut off.
        prompt_weight: 0 takes a padding prompt out. None: all alike.
    """

    log_probs: Float[Array, "b g n"]
    mask: Bool[Array, "b g n"]
    advantages: Float[Array, "b g"]
    old: Float[Array, "b g n"] | None = None
    reference: Float[Array, "b g n"] | None = None
    kl: Float[Array, "b g n"] | None = None
    sampler: Float[Array, "b g n"] | None = None
    entropy: Float[Array, "b g n"] | None = None
    ended: Bool[Array, "b g"] | None = None
    prompt_weight: Float[Array, " b"] | None = None


@dataclasses.dataclass(frozen=True)
class PolicyGradient:
    """The rule of the loss.

    Attributes:
        clip_low, clip_high: a ratio counts from `1 - clip_low` to `1 + clip_high`; None takes
            `clip_low` for both. DAPO's "clip-higher" is 0.2 and 0.28, Flow-GRPO's 1e-4.
        dual_clip: bound of the ratio where the advantage is negative, which `clip_high` leaves
            free (Ye et al. 2020; `delta` of TRL). None: no bound.
        level: ratios of each draw ("token"), or one of the whole answer, the exponential of the
            mean log-ratio ("sequence", GSPO, Zheng et al. 2025).
        divergence: the estimate of the KL divergence from the reference, of the log-ratio
            `d = log(reference / policy)`: k1 is `-d`, k2 `d^2 / 2`, k3 `exp(d) - 1 - d` (Schulman
            2020, "Approximating KL divergence"); "exact" takes `Draws.kl`.
        kl_coefficient: weight of it; with 0 no reference is needed (McSc: 0.07).
        kl_by_ratio: multiplies the estimate by the ratio, which makes its gradient that of the
            divergence (TRL's `use_bias_correction_kl`).
        aggregation: see `aggregate`.
        length: of "dr_grpo": the longest that an answer may be.
        mask_truncated: answers that were cut off teach nothing.

    Raises:
        ValueError: an unknown name, a value out of range, "dr_grpo" without a length, or k1 as a
            loss without `kl_by_ratio`: its mean is a divergence, the mean of its gradient is 0.
    """

    clip_low: float
    clip_high: float | None = None
    dual_clip: float | None = None
    level: str = "token"
    divergence: str = "k3"
    kl_coefficient: float = 0.0
    kl_by_ratio: bool = False
    aggregation: str = "grpo"
    length: int | None = None
    mask_truncated: bool = False

    def __post_init__(self):
        names = {"level": LEVELS, "divergence": DIVERGENCES, "aggregation": AGGREGATIONS}
        for field, known in names.items():
            name = getattr(self, field)
            if name not in known:
                raise ValueError(f"{field}={name!r} is unknown; {nearest(name, known)}")
        rules = {
            "clip_low": (0 < self.clip_low <= 1, "in (0, 1]"),
            "clip_high": (self.clip_high is None or self.clip_high > 0, "above 0"),
            "dual_clip": (
                self.dual_clip is None or self.dual_clip > self.bounds[1],
                f"above 1 + clip_high, {self.bounds[1]}",
            ),
            "kl_coefficient": (0 <= self.kl_coefficient < float("inf"), "0 or more"),
            "length": (
                self.aggregation != "dr_grpo" or (self.length or 0) >= 1,
                "1 or more with aggregation='dr_grpo', which divides by it",
            ),
        }
        for field, (good, wanted) in rules.items():
            if not good:
                raise ValueError(f"{field}={getattr(self, field)!r}: must be {wanted}")
        if self.kl_coefficient and self.divergence == "k1" and not self.kl_by_ratio:
            raise ValueError(
                "divergence='k1' as a loss has a gradient whose mean is 0, and holds the policy to "
                "nothing: take 'k3' or 'k2', or set kl_by_ratio"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest ratio that is not clipped."""
        high = self.clip_low if self.clip_high is None else self.clip_high
        return 1.0 - self.clip_low, 1.0 + high

    def check(self, draws: Draws) -> None:
        """Raises ValueError where something is missing in what is given, before it is looked at."""
        missing = draws.kl if self.divergence == "exact" else draws.reference
        if self.kl_coefficient and missing is None:
            raise ValueError(
                f"kl_coefficient={self.kl_coefficient} with divergence={self.divergence!r} holds "
                "the policy to a reference, and none is given: give one, or set kl_coefficient=0"
            )
        if self.mask_truncated and draws.ended is None:
            raise ValueError(
                "mask_truncated leaves out answers that were cut off, and nothing says which did "
                "end: give `ended`, or set mask_truncated=False"
            )


def policy_gradient(draws: Draws, rule: PolicyGradient) -> tuple[Float[Array, ""], Metrics]:
    """The clipped policy gradient with a divergence (GRPO, Shao et al. 2024, eq. 3).

    The term of a draw is `-min(ratio A, clip(ratio) A) + kl_coefficient KL`. In the first update
    from what was drawn, the gradient of the first part is REINFORCE's, `-A grad log p`.

    A draw with a probability of 0 under one of the policies, as with top-p when an update has moved
    what it leaves, has no ratio: it adds nothing and is counted as `impossible`.

    Returns:
        The loss and its metrics, means over the draws that count: `ratio`; `clip_fraction`, and
        its parts `clip_fraction_low` and `clip_fraction_high`; `policy_kl`, k3 of the policy that
        drew; `impossible`; where given, `kl`, `entropy` and `sampler_gap`, the mean
        `|log p of the sampler - log p of training|`. Over the answers: `answer_length` and
        `truncated`. They belong to microbatches weighed by `draw_counts`.

    Raises:
        ValueError: see `PolicyGradient.check`.
    """
    rule.check(draws)
    mask, answers = _counted(rule, draws.mask, draws.ended, draws.prompt_weight)
    behaviour = draws.log_probs if draws.old is None else draws.old
    behaviour = jax.lax.stop_gradient(behaviour)
    possible = mask & ~jnp.isneginf(draws.log_probs) & ~jnp.isneginf(behaviour)
    never = None if draws.reference is None else jnp.isneginf(draws.reference)
    if rule.kl_coefficient and never is not None:
        possible &= ~never

    def known(x: Array) -> Array:
        return jnp.where(possible, x.astype(jnp.float32), 0.0)

    policy, behaviour = known(draws.log_probs), known(behaviour)
    ratio = ratios(policy - behaviour, possible, rule.level)
    advantages = jax.lax.stop_gradient(draws.advantages.astype(jnp.float32))[..., None]
    low, high, used = clipped(ratio, advantages, rule.bounds, rule.dual_clip)
    terms = -advantages * used
    count = draw_count(mask, answers)

    def mean(x: Array) -> Float[Array, ""]:
        return (jnp.where(mask, x, 0.0) * answers[..., None]).sum() / jnp.where(count > 0, count, 1)

    metrics = {}
    if rule.divergence == "exact" and draws.kl is not None:
        metrics["kl"] = kl = known(draws.kl)
    elif rule.divergence != "exact" and draws.reference is not None:
        reference = jnp.where(never, draws.log_probs, draws.reference)
        reference = known(jax.lax.stop_gradient(reference))
        metrics["kl"] = kl = divergence(reference - policy, rule.divergence)
    if rule.kl_coefficient:
        terms += rule.kl_coefficient * (kl * ratio if rule.kl_by_ratio else kl)
    metrics |= {
        "ratio": ratio,
        "clip_fraction": low | high,
        "clip_fraction_low": low,
        "clip_fraction_high": high,
        "policy_kl": divergence(policy - behaviour, "k3"),
        "impossible": ~possible,
    }
    if draws.entropy is not None:
        metrics["entropy"] = draws.entropy
    if draws.sampler is not None:
        metrics["sampler_gap"] = jnp.abs(known(draws.sampler) - behaviour)
    loss = aggregate(
        jnp.where(possible, terms, 0.0), mask, answers, name=rule.aggregation, length=rule.length
    )
    metrics = {name: mean(value) for name, value in metrics.items()} | _of_answers(draws, answers)
    return loss, jax.lax.stop_gradient(metrics)


def draw_counts(
    rule: PolicyGradient,
    mask: Bool[Array, "b g n"],
    ended: Bool[Array, "b g"] | None = None,
    prompt_weight: Float[Array, " b"] | None = None,
) -> dict[str, Array]:
    """Returns what the loss ("loss") and its metrics were divided by, for `make_train_step`.

    Args:
        rule: that of the loss.
        mask, ended, prompt_weight: see `Draws`; they are known before the network is called.
    """
    mask, answers = _counted(rule, mask, ended, prompt_weight)
    of_draws = (
        *("ratio", "clip_fraction", "clip_fraction_low", "clip_fraction_high", "policy_kl"),
        *("impossible", "kl", "entropy", "sampler_gap"),
    )
    return {
        "loss": loss_count(mask, answers, name=rule.aggregation),
        **dict.fromkeys(of_draws, draw_count(mask, answers)),
        **dict.fromkeys(("answer_length", "truncated"), answers.sum()),
    }


def _counted(
    rule: PolicyGradient,
    mask: Bool[Array, "b g n"],
    ended: Bool[Array, "b g"] | None,
    prompt_weight: Float[Array, " b"] | None,
) -> tuple[Bool[Array, "b g n"], Float[Array, "b g"]]:
    """Which draws train, and the weight of each answer."""
    mask = jnp.asarray(mask)
    if rule.mask_truncated:
        mask &= ended[..., None]
    answers = jnp.ones(mask.shape[:2], jnp.float32)
    if prompt_weight is not None:
        answers *= prompt_weight[:, None]
    return mask, answers


def _of_answers(draws: Draws, answers: Float[Array, "b g"]) -> Metrics:
    total = answers.sum()

    def mean(x: Array) -> Array:
        return (x * answers).sum() / jnp.where(total > 0, total, 1.0)

    metrics = {"answer_length": mean(jnp.asarray(draws.mask).sum(axis=2))}
    if draws.ended is not None:
        metrics["truncated"] = mean(~jnp.asarray(draws.ended))
    return metrics
