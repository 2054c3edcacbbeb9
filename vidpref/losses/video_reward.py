"""The loss of a reward model that sees videos: both of a pair in one batch, scored, compared."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.losses.latent_reward import label_mask
from vidpref.models.lora import apply_network
from vidpref.models.qwen_vl.reward import from_arrays
from vidpref.objectives.preference import (
    MASKS,
    Preference,
    bradley_terry,
    bradley_terry_ties,
    decided_labels,
    pair_metrics,
    regression,
)
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, Bool, Key, PyTree

LOSSES = ("bt", "btt", "regression")


@dataclasses.dataclass(frozen=True)
class VideoRewardLoss:
    """`(trainable, frozen, batch, rng) -> (loss, metrics)` of VideoReward (VideoAlign 3.2).

    A batch holds the arrays of `to_arrays` with the axes [b, 2, ...] (video A, video B),
    `preference` [b, d] (numbers of `Preference`), for regression `rating` [b, 2, d] (NaN where
    there is none), and optionally `weight` [b] (0 for a padding row). All 2b videos go through the
    network in one batch. Metrics are those of `pair_metrics`, one a dimension:
    `accuracy/<dimension>` and so on, `accuracy`, their mean, and of regression `absolute_error`.

    Attributes:
        module: the network, a `QwenVLReward`.
        tuning: what of it is trained.
        dimensions: names of the d dimensions.
        kind: "bt" (ties do not count), "btt" (Bradley-Terry with ties) or "regression" (squared
            error to ratings).
        theta: of "btt"; the larger, the more ties.
        masks: see `objectives.preference`.

    Raises:
        ValueError: an unknown kind or masks; from the call, a batch that does not fit.
    """

    module: nn.Module
    tuning: Tuning
    dimensions: tuple[str, ...]
    kind: str = "btt"
    theta: float = 5.0
    masks: str = "valid"

    def __post_init__(self):
        for name, known in (("kind", LOSSES), ("masks", MASKS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; known are {', '.join(known)}"
                )

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        self._check(batch)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), from_arrays(batch))
        policy = self.tuning.policy(trainable, frozen, rng)
        scores = apply_network(self.module, policy, rows)
        scores = scores.reshape(-1, 2, len(self.dimensions))
        a, b = scores[:, 0], scores[:, 1]
        labels, mask = batch["preference"], label_mask(batch)
        found = pair_metrics(a, b, labels, mask)
        if self.kind == "bt":
            loss, _ = bradley_terry(a, b, labels, mask, masks=self.masks)
        elif self.kind == "btt":
            loss, _ = bradley_terry_ties(a, b, labels, mask, theta=self.theta, masks=self.masks)
        else:
            ratings, rated = self._ratings(batch)
            flat = scores.reshape(-1, len(self.dimensions))
            loss, errors = regression(flat, ratings, rated, masks=self.masks)
            found |= errors
        metrics = {"accuracy": found["accuracy"].mean()}
        for name, values in found.items():
            metrics |= {f"{name}/{dim}": values[i] for i, dim in enumerate(self.dimensions)}
        return loss, metrics

    def counts(self, batch: Mapping[str, Array]) -> dict[str, Array | int]:
        """Returns what the loss and its metrics are divided by, for microbatches."""
        labels, mask = batch["preference"], label_mask(batch)
        decided = decided_labels(labels, mask)
        found = {}
        if self.kind == "regression":
            counted = self._ratings(batch)[1]
        elif self.kind == "bt":
            counted = decided
        else:
            counted = decided | decided_labels(jnp.where(labels == Preference.TIE, 0, 3), mask)
        found["loss"] = counted.sum() if self.masks == "valid" else counted.size
        for i, dim in enumerate(self.dimensions):
            found |= {f"{name}/{dim}": decided[:, i].sum() for name in ("accuracy", "margin")}
            found |= {f"{name}/{dim}": labels.shape[0] for name in ("decided", "tied")}
            if self.kind == "regression":
                found[f"absolute_error/{dim}"] = counted[:, i].sum()
        return found

    def _ratings(self, batch: Mapping[str, Array]) -> tuple[Array, Bool[Array, "n d"]]:
        """Ratings of both videos [2b, d], and which there are."""
        ratings = batch["rating"].reshape(-1, len(self.dimensions))
        rated = ~jnp.isnan(ratings)
        if "weight" in batch:
            rated &= jnp.repeat(batch["weight"] > 0, 2)[:, None]
        return ratings, rated

    def _check(self, batch: Mapping[str, Array]) -> None:
        b, pair = batch["tokens"].shape[:2]
        labels, d = batch["preference"].shape, len(self.dimensions)
        if pair != 2 or labels != (b, d):
            raise ValueError(
                f"a pair has 2 videos and {d} labels ({', '.join(self.dimensions)}), the batch has "
                f"{pair} videos a row and labels {labels}"
            )
        if self.kind == "regression" and "rating" not in batch:
            raise ValueError("loss='regression' learns from ratings, and the batch has none")
