"""The policy gradient of a model that answers in words, on answers that it drew (GRPO)."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.language.continued import continued
from vidpref.language.likelihood import Likelihood, likelihood
from vidpref.language.sampling import Sampling
from vidpref.losses.read_logits import read_logits
from vidpref.models.qwen_vl.inputs import from_arrays
from vidpref.objectives.policy_gradient import Draws, PolicyGradient, draw_counts, policy_gradient
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, Bool, Float, Int, Key, PyTree

_SHOWN = ("kl", "entropy", "sampler_gap", "answer_length", "truncated", "impossible")
_OF_SEVERAL = ("ratio", "clip_fraction", "policy_kl")


@dataclasses.dataclass(frozen=True)
class DrawnAnswersLoss:
    """`(trainable, frozen, batch, rng) -> (loss, metrics)` of g answers to each of b prompts.

    A batch holds the arrays of `to_arrays` of b prompts, padded on the left, `drawn` [b, g, n], the
    tokens of answers, `log_probs` [b, g, n] that drawing gave them, `lengths` and `ended` [b, g],
    and `advantage` [b, g]. With several updates a drawing it holds `old` [b, g, n] too, the
    log-probabilities by the forward pass of training before the first. Dropout of adapters is off:
    otherwise ratios would not be 1 before the first update.

    Attributes:
        module: the network, a `QwenVLAnswers`.
        tuning: what is trained; it finds the policy and its reference.
        sampling: how answers were drawn.
        rule: the policy gradient.
    """

    module: nn.Module
    tuning: Tuning
    sampling: Sampling
    rule: PolicyGradient

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        found = self.likelihood(self.tuning.policy(trainable, frozen, None), batch)
        reference = None
        if self.rule.kl_coefficient:
            other = jax.lax.stop_gradient(self.tuning.reference(frozen))
            reference = self.likelihood(other, batch).log_probs
        draws = Draws(
            log_probs=found.log_probs,
            mask=found.mask,
            advantages=batch["advantage"],
            old=batch.get("old"),
            reference=reference,
            sampler=batch["log_probs"],
            entropy=found.entropy,
            ended=batch["ended"],
            prompt_weight=batch.get("weight"),
        )
        loss, metrics = policy_gradient(draws, self.rule)
        shown = (*_SHOWN, *(_OF_SEVERAL if "old" in batch else ()))
        return loss, {name: metrics[name] for name in shown if name in metrics}

    def likelihood(self, policy: PyTree, batch: Mapping[str, Array]) -> Likelihood:
        """Returns how likely a policy finds the answers of a batch."""
        drawn, lengths = batch["drawn"], batch["lengths"]
        b, g, n = drawn.shape
        rows = continued(from_arrays(batch), drawn, lengths)

        def read(logits: Float[Array, "r c v"], tokens: Int[Array, "r c"]) -> tuple[Array, Array]:
            whole = jnp.full((len(tokens), 1), tokens.shape[1])
            found = likelihood(logits[:, None], tokens[:, None], whole, self.sampling)
            return found.log_probs[:, 0], found.entropy[:, 0]

        found = read_logits(read, self.module, policy, rows, drawn.reshape(b * g, n))
        log_probs, entropy = (x.reshape(b, g, n) for x in found)
        return Likelihood(log_probs, entropy, _mask(batch))

    def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Returns what the loss and its metrics are divided by, for microbatches."""
        return draw_counts(self.rule, _mask(batch), batch["ended"], batch.get("weight"))


def _mask(batch: Mapping[str, Array]) -> Bool[Array, "b g n"]:
    n = batch["drawn"].shape[2]
    return jnp.arange(n)[None, None] < batch["lengths"][..., None]
