"""The loss of a model that learns to grade: what it says of two clips, and which it grades higher.

Told grades alone, a small model finds that prompts tell most of them, and hardly looks at the
clips. Two clips of one prompt share all that the prompt tells: their order is learnt by sight.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.losses.read_logits import read_logits
from vidpref.models.qwen_vl.inputs import from_arrays
from vidpref.objectives.preference import (
    Preference,
    outcome_log_probabilities,
    pair_metrics,
)
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, Float, Int, Key, PyTree

# Numbers of the tokens that a best word, and a worst word, may begin with.
Scale = tuple[tuple[int, ...], tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class RankedAnswerLoss:
    """`(trainable, frozen, batch, rng) -> (loss, metrics)` of instruction tuning on pairs.

    A batch holds the arrays of `to_arrays` [b, 2, ...], padded on the left, of a conversation about
    each of two clips; `said` [b, 2, a], which of the last a tokens are answers'; `at` [b, 2, t],
    the places among these of t words that grade; `scale` [b, t], which of `scales` each is of; and
    `preference` [b, t], numbers of `Preference`. `weight` [b] is optional (0 for a padding row).

    The loss is the mean over pairs of the cross-entropy of a pair's answers, and `ranking` times
    that of its labels under Bradley-Terry with ties (VideoAlign eq. 2), where a clip scores what
    its logits put the best word above the worst. Metrics are `token_accuracy`, see `AnswerLoss`,
    and `accuracy` of `pair_metrics` over all labels.

    Attributes:
        module: the network, a `QwenVLAnswers`.
        tuning: what of it is trained.
        scales: what words begin with, best and worst.
        ranking: weight of the labels.
        theta: of Bradley-Terry; the larger, the more ties.
    """

    module: nn.Module
    tuning: Tuning
    scales: tuple[Scale, ...]
    ranking: float
    theta: float = 5.0

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), from_arrays(batch))
        said = batch["said"].reshape(-1, batch["said"].shape[2])
        policy = self.tuning.policy(trainable, frozen, rng)
        n = said.shape[1]
        tokens = jnp.asarray(rows.tokens)[:, -n:]
        found = read_logits(self._read, self.module, policy, rows, tokens)
        weight = self._weight(batch)
        right = jnp.where(said, found["right"], False)
        answers = _pair_means(-found["own"], said)
        words = self._ordered(found, batch)
        total = jnp.maximum(weight.sum(), 1)
        metrics = {
            "token_accuracy": (weight * _pair_means(right.astype(jnp.float32), said)).sum() / total,
            "answers": (weight * answers).sum() / total,
            "order": (weight * words[0]).sum() / total,
            "accuracy": words[1],
        }
        return metrics["answers"] + self.ranking * metrics["order"], metrics

    def counts(self, batch: Mapping[str, Array]) -> dict[str, Array | int]:
        """Returns what the loss and its metrics are divided by, for microbatches."""
        pairs = self._weight(batch).sum()
        labels = _counted(batch["preference"], self._weight(batch)).sum()
        return {
            **dict.fromkeys(("loss", "token_accuracy", "answers", "order"), pairs),
            "accuracy": labels,
        }

    def _read(self, logits: Float[Array, "b n v"], tokens: Int[Array, "b n"]) -> dict[str, Array]:
        """Of each token its log probability, whether it is the likeliest, and the margins."""
        logits = logits.astype(jnp.float32)
        chances = jax.nn.log_softmax(logits, axis=-1)
        found = {
            "own": jnp.take_along_axis(chances, tokens[..., None], axis=-1)[..., 0],
            "right": jnp.argmax(logits, axis=-1) == tokens,
        }
        for number, words in enumerate(self.scales):
            best, worst = (jax.nn.logsumexp(logits[..., jnp.array(ids)], axis=-1) for ids in words)
            found[f"margin{number}"] = best - worst
        return found

    def _ordered(
        self, found: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Float[Array, " b"], Float[Array, ""]]:
        """Of each pair the mean loss of its labels, and of all the part that is in order."""
        labels, at = batch["preference"], batch["at"]
        b, _, t = at.shape
        margins = jnp.stack([found[f"margin{i}"] for i in range(len(self.scales))], axis=-1)
        margins = margins.reshape(b, 2, *margins.shape[1:])
        there = jnp.take_along_axis(margins, at[..., None], axis=2)
        scale = jnp.broadcast_to(batch["scale"][:, None, :, None], (b, 2, t, 1))
        a, other = jnp.moveaxis(jnp.take_along_axis(there, scale, axis=3)[..., 0], 1, 0)
        outcome = jnp.where(labels < Preference.INVALID, labels, 0)[..., None]
        chances = outcome_log_probabilities(a, other, theta=self.theta)
        losses = -jnp.take_along_axis(chances, outcome, axis=-1)[..., 0]
        known = labels < Preference.INVALID
        mean = jnp.where(known, losses, 0.0).sum(axis=1) / jnp.maximum(known.sum(axis=1), 1)
        decided = _counted(labels, self._weight(batch))
        flat = (x.reshape(-1, 1) for x in (a, other, labels, decided))
        return mean, pair_metrics(*flat)["accuracy"][0]

    def _weight(self, batch: Mapping[str, Array]) -> Float[Array, " b"]:
        """1 for every pair that counts."""
        if "weight" not in batch:
            return jnp.ones(len(batch["preference"]))
        return (batch["weight"] > 0).astype(jnp.float32)


def _counted(labels: Int[Array, "b t"], weight: Float[Array, " b"]) -> Array:
    return (labels < Preference.TIE) & (weight > 0)[:, None]


def _pair_means(values: Float[Array, "n a"], said: Array) -> Float[Array, " b"]:
    """The mean over the answers' tokens of both rows of each pair."""
    both = jnp.where(said, values, 0.0).sum(axis=1).reshape(-1, 2).sum(axis=1)
    return both / jnp.maximum(said.sum(axis=1).reshape(-1, 2).sum(axis=1), 1)
