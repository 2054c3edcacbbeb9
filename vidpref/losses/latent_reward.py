"""The loss of a latent reward model: corrupt both clips of a pair alike, score, compare."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp

from vidpref.diffusion.denoising import corrupt_clips
from vidpref.diffusion.process import Process
from vidpref.objectives.preference import bradley_terry, decided_labels
from vidpref.pixels import to_unit
from vidpref.typing import Array, Key, PyTree


@dataclasses.dataclass(frozen=True)
class LatentRewardLoss:
    """`(trainable, frozen, batch, rng) -> (loss, metrics)`; see `make_latent_reward_loss`."""

    apply: Callable[[PyTree, Array, Array, PyTree], Array]
    process: Process
    dims: tuple[str, ...]
    make_condition: Callable[[Mapping[str, Array]], PyTree]
    noise_aware: bool

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        del frozen
        labels = batch["preference"]
        _check_shapes(batch["clips"].shape, labels.shape, self.dims)
        clips = to_unit(batch["clips"])
        b, _, *clip_shape = clips.shape
        if self.noise_aware:
            corrupted = corrupt_clips(self.process, rng, clips)
            x_tau, tau = corrupted.x_tau, corrupted.tau
        else:
            x_tau, tau = clips, jnp.zeros(b)
        condition = self.make_condition(batch).repeat(2)
        x_tau = x_tau.reshape(2 * b, *clip_shape)
        scores = self.apply(trainable, x_tau, jnp.repeat(tau, 2), condition)
        scores = scores.astype(jnp.float32).reshape(b, 2, len(self.dims))
        loss, of_dims = bradley_terry(scores[:, 0], scores[:, 1], labels, label_mask(batch))
        metrics = {"accuracy": of_dims["accuracy"].mean()}
        for name, values in of_dims.items():
            metrics |= {f"{name}/{dim}": values[i] for i, dim in enumerate(self.dims)}
        return loss, metrics

    def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Returns what the loss and its metrics are divided by: decided labels, or all.

        The training step puts microbatches together by it.
        """
        labels = batch["preference"]
        decided = decided_labels(labels, label_mask(batch)).sum(axis=0)
        found = {"loss": decided.sum()}
        for i, dim in enumerate(self.dims):
            found |= {f"{name}/{dim}": decided[i] for name in ("accuracy", "margin")}
            found |= {f"{name}/{dim}": labels.shape[0] for name in ("decided", "tied")}
        return found


def make_latent_reward_loss(
    apply: Callable[[PyTree, Array, Array, PyTree], Array],
    process: Process,
    *,
    dims: Sequence[str],
    make_condition: Callable[[Mapping[str, Array]], PyTree],
    noise_aware: bool = True,
) -> LatentRewardLoss:
    """Returns `loss_fn(trainable, frozen, batch, rng) -> (loss, metrics)` (VideoAlign 4.4).

    A batch holds `clips` uint8 [b, 2, t, h, w, c] (clip A, clip B), `preference` [b, d] (numbers of
    `Preference`), what `make_condition` reads, and optionally `weight` [b] (0 for a padding row).
    The clips of a pair get the same time and noise, taken not to change which is preferred, and
    all 2b go through the network in one batch. `frozen` is not used.

    Metrics are those of `pair_metrics`, one a dimension: `accuracy/<dimension>` and so on, and
    `accuracy`, their mean (under accumulation that of the microbatches, by their decided labels).

    Args:
        apply: `(params, x_tau [2b, t, h, w, c], tau [2b], condition) -> scores [2b, d]`.
        process: noise process.
        dims: names of the d dimensions.
        make_condition: from a batch, the condition of its b rows, with `repeat(k)`.
        noise_aware: False trains on clean clips at tau = 0, the paper's ablation.

    Raises:
        ValueError: no dimension, or one named twice; from `loss_fn`, a batch without two clips a
            row or without a label for each dimension.
    """
    if not dims or len(set(dims)) < len(dims):
        raise ValueError(f"dims={tuple(dims)} must be one or more different names")
    return LatentRewardLoss(apply, process, tuple(dims), make_condition, noise_aware)


def label_mask(batch: Mapping[str, Array]) -> Array | None:
    """Returns which labels of a batch count, those of padding rows (`weight` 0) do not; or None."""
    if "weight" not in batch:
        return None
    return jnp.broadcast_to((batch["weight"] > 0)[:, None], batch["preference"].shape)


def _check_shapes(clips: tuple[int, ...], labels: tuple[int, ...], dims: Sequence[str]) -> None:
    if clips[1] != 2:
        raise ValueError(f"a pair has 2 clips, the batch has {clips[1]} a row: clips {clips}")
    if labels != (clips[0], len(dims)):
        raise ValueError(
            f"preference has shape {labels}; {clips[0]} rows and the dimensions "
            f"{', '.join(dims)} need {(clips[0], len(dims))}"
        )
