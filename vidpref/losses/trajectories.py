"""The loss of Flow-GRPO and its kin: how likely a policy finds the random steps of a sampler."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vidpref.diffusion.samplers import Chain
from vidpref.diffusion.stochastic import (
    StepNoise,
    gaussian_kl,
    gaussian_log_prob,
    step_gaussian,
    step_weights,
)
from vidpref.losses.alignment import AlignmentLoss
from vidpref.objectives.policy_gradient import Draws, PolicyGradient, draw_counts, policy_gradient
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, Float, Key, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class TrajectoryLoss:
    """`loss_fn(trainable, frozen, batch, rng) -> (loss, metrics)` of g trajectories a prompt.

    A batch holds `states` [b, g, n + 1, t, h, w, c], the clips before each of n random steps and
    behind the last; `log_probs` [b, g, n] that the sampler gave them; `advantage` [b, g]; where the
    window slides, `first_step` [b], the first of the random steps, alike in all rows; what `chain`
    reads of b prompts; and, for the data term, `real`, a batch of real clips as
    `make_alignment_loss` takes it.

    Every step is one call of the network on b clips, with the guidance and the precision of the
    sampler, dropout of adapters off: otherwise ratios would not be 1 before the first update. The
    calls come one after the other and are computed again for the gradient, so that memory is that
    of one.

    Attributes:
        chain: `(params, batch) -> chain` of b clips, whose start is not looked at.
        noise: which steps are random, and how.
        rule: the policy gradient.
        tuning: what is trained; it finds the policy and its reference.
        updates: steps that learn from one drawing. With one the policy is that which drew, and
            ratios are exactly 1; otherwise they are to what the sampler gave.
        real: the error on real clips, for a loss that is held to data in the place of a reference
            (DDRL, "Data-regularized Reinforcement Learning for Diffusion Models at Scale", 2025).
        real_weight: weight of it.
    """

    chain: Callable[[PyTree, Mapping[str, Array]], Chain]
    noise: StepNoise
    rule: PolicyGradient
    tuning: Tuning
    updates: int = 1
    real: AlignmentLoss | None = None
    real_weight: float = 0.0

    warning = None  # nothing to be told of its first metrics

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        policy = self.tuning.policy(trainable, frozen, None)
        reference = None
        if self.rule.kl_coefficient:
            reference = jax.lax.stop_gradient(self.tuning.reference(frozen))
        log_probs, kl = self._steps(policy, reference, batch)
        drawn_with = batch["log_probs"]
        draws = Draws(
            log_probs=log_probs,
            mask=jnp.ones(log_probs.shape, bool),
            advantages=batch["advantage"],
            old=drawn_with if self.updates > 1 else None,
            sampler=drawn_with,
            kl=kl,
        )
        loss, metrics = policy_gradient(draws, self.rule)
        shown = ("kl", "sampler_gap")
        if self.updates > 1:
            shown = ("ratio", "clip_fraction", "policy_kl", *shown)
        metrics = {name: metrics[name] for name in shown if name in metrics}
        if self.real is not None:
            error, _ = self.real(trainable, frozen, batch["real"], rng)
            loss, metrics = loss + self.real_weight * error, metrics | {"error_real": error}
        return loss, metrics

    def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Returns what the means over a batch are divided by, see `make_train_step`."""
        return draw_counts(self.rule, jnp.ones(batch["log_probs"].shape, bool))

    def _steps(
        self, policy: PyTree, reference: PyTree | None, batch: Mapping[str, Array]
    ) -> tuple[Float[Array, "b g n"], Float[Array, "b g n"] | None]:
        """Log-probabilities of all steps, and their divergence from the reference's."""
        states = batch["states"]
        b, g, n = batch["log_probs"].shape
        chains = [self.chain(params, batch) for params in (policy, reference) if params is not None]
        weights = step_weights(chains[0], self.noise)

        def likelihood(before: Array, after: Array, index: Array) -> tuple[Array, ...]:
            mean, std = step_gaussian(chains[0], weights, before, index)
            log_prob = gaussian_log_prob(after, mean, std)
            if len(chains) == 1:
                return (log_prob,)
            other, _ = step_gaussian(chains[1], weights, before, index)
            return log_prob, gaussian_kl(mean, other, std)

        def one(_: None, step: tuple[Array, Array, Array]) -> tuple[None, tuple[Array, ...]]:
            return None, jax.checkpoint(likelihood)(*step)

        def in_turn(x: Array) -> Array:
            """[b, g, n, ...] to [g n, b, ...]."""
            return jnp.moveaxis(x, 0, 2).reshape(g * n, b, *x.shape[3:])

        start = batch["first_step"][0] if self.noise.slides else self.noise.window[0]
        index = jnp.tile(start + jnp.arange(n), g)
        turns = in_turn(states[:, :, :-1]), in_turn(states[:, :, 1:]), index
        _, found = jax.lax.scan(one, None, turns)
        log_probs, *kl = (jnp.moveaxis(x.reshape(g, n, b), 2, 0) for x in found)
        return log_probs, kl[0] if kl else None
