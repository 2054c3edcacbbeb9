"""The loss of a model that learns to answer: cross-entropy of the answers' tokens alone."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.losses.read_logits import read_logits
from vidpref.models.qwen_vl.inputs import from_arrays
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, Bool, Float, Int, Key, PyTree


@dataclasses.dataclass(frozen=True)
class AnswerLoss:
    """`(trainable, frozen, batch, rng) -> (loss, metrics)` of instruction tuning (IPO 3.2).

    A batch holds the arrays of `to_arrays` [b, ...], padded on the left, `said` [b, a] (which of
    the last a tokens are the answer's, its end too) and optionally `weight` [b] (0 for a padding
    row). The loss is the mean over all tokens of answers. Metrics are `token_accuracy`, the part of
    them that is the most probable one, and `answer_accuracy`, the part of answers of which all are.

    Attributes:
        module: the network, a `QwenVLAnswers`.
        tuning: what of it is trained.
    """

    module: nn.Module
    tuning: Tuning

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        said = _said(batch)
        policy = self.tuning.policy(trainable, frozen, rng)
        n = said.shape[1]
        tokens = jnp.asarray(batch["tokens"])[:, -n:]
        own, right = read_logits(_chances, self.module, policy, from_arrays(batch), tokens)
        total = jnp.maximum(said.sum(), 1)
        there = said.any(axis=1)
        metrics = {
            "token_accuracy": (right & said).sum() / total,
            "answer_accuracy": ((right | ~said).all(axis=1) & there).sum()
            / jnp.maximum(there.sum(), 1),
        }
        return -jnp.where(said, own, 0.0).sum() / total, metrics

    def counts(self, batch: Mapping[str, Array]) -> dict[str, Array | int]:
        """Returns what the loss and its metrics are divided by, for microbatches."""
        said = _said(batch)
        tokens = said.sum()
        answers = said.any(axis=1).sum()
        return {"loss": tokens, "token_accuracy": tokens, "answer_accuracy": answers}


def _chances(
    logits: Float[Array, "b n v"], tokens: Int[Array, "b n"]
) -> tuple[Float[Array, "b n"], Bool[Array, "b n"]]:
    """The logarithm of each token's probability, and whether it is the most probable one."""
    logits = logits.astype(jnp.float32)
    chances = jax.nn.log_softmax(logits, axis=-1)
    own = jnp.take_along_axis(chances, tokens[..., None], axis=-1)[..., 0]
    return own, jnp.argmax(logits, axis=-1) == tokens


def _said(batch: Mapping[str, Array]) -> Bool[Array, "b a"]:
    """Which tokens are learnt from."""
    said = batch["said"]
    return said & (batch["weight"] > 0)[:, None] if "weight" in batch else said
