"""The loss of pre-training and of every alignment method: corrupt, denoise, compare."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vidpref.diffusion.denoising import corrupt_clips, denoising_error
from vidpref.diffusion.process import Process
from vidpref.objectives.alignment import OBJECTIVES, Errors, Labels, check_hyper
from vidpref.typing import Array, Key, PyTree


def make_alignment_loss(
    apply: Callable[[PyTree, Array, Array, PyTree], Array],
    process: Process,
    objective_name: str,
    hyper: Mapping[str, float | int],
    *,
    make_condition: Callable[[Mapping[str, Array]], PyTree],
    error_in: str | None,
    reduction: str,
    condition_dropout: float = 0.0,
    low_res_augmentation: float = 0.0,
) -> Callable[[PyTree, PyTree, Mapping[str, Array], Array], tuple[Array, dict[str, Array]]]:
    """Returns `loss_fn(trainable, frozen, batch, rng) -> (loss, metrics)`.

    A batch holds `clips` uint8 [b, k, t, h, w, c], `reward` [b, k], what `make_condition` reads,
    and optionally `weight` [b] (0 for a padding row). `frozen["reference"]` holds the reference
    policy's parameters where the objective needs one. The k clips of a row share time, noise and
    condition and go through the network in one batch.

    Args:
        apply: `(params, x_tau, tau, condition) -> output`.
        process: noise process.
        objective_name: name in `OBJECTIVES`.
        hyper: the objective's hyper-parameters.
        make_condition: from a batch, the condition of its b rows: a struct of arrays with
            `repeat(k)`, `without_text()` and, for super-resolution, `low_res` and `low_res_tau`.
        error_in, reduction: of `denoising_error`.
        condition_dropout: probability that a row loses its text, so that the network also learns
            the unconditional branch of guidance.
        low_res_augmentation: the low-resolution input is corrupted up to this time, so that the
            super-resolution network bears with the faults of generated input (Ho et al. 2022,
            "Cascaded diffusion models", section 4).

    Raises:
        ValueError: a wrong objective, hyper-parameter or probability; from `loss_fn`, a batch with
            another number of clips a row than the objective's.
    """
    check_hyper(objective_name, hyper)
    objective = OBJECTIVES[objective_name]
    hyper = {field: float(value) for field, value in hyper.items()}
    for name, value in (
        ("condition_dropout", condition_dropout),
        ("low_res_augmentation", low_res_augmentation),
    ):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value} must lie in [0, 1]")

    def condition_of(batch: Mapping[str, Array], rng: Key[Array, ""]) -> PyTree:
        condition = make_condition(batch)
        drop_rng, low_res_rng = jax.random.split(rng)
        if condition_dropout:
            condition = _drop_text(condition, condition_dropout, drop_rng, batch["clips"].shape[0])
        if "low_res" in batch:
            condition = _augment_low_res(condition, process, low_res_augmentation, low_res_rng)
        return condition

    def loss_fn(
        trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        k = batch["clips"].shape[1]
        if k != objective.k:
            raise ValueError(
                f"{objective_name} takes {objective.k} clips a row, the batch has {k}: "
                f"clips {batch['clips'].shape}"
            )
        corruption_rng, condition_rng = jax.random.split(rng)
        clips = batch["clips"].astype(jnp.float32) / 127.5 - 1.0
        corrupted = corrupt_clips(process, corruption_rng, clips)
        condition = condition_of(batch, condition_rng)

        def errors_of(params: PyTree) -> Array:
            denoise = functools.partial(apply, params)
            return denoising_error(
                denoise, process, corrupted, condition, error_in=error_in, reduction=reduction
            )

        reference = None
        if objective.needs_reference:
            reference = errors_of(jax.lax.stop_gradient(frozen["reference"]))
        errors = Errors(policy=errors_of(trainable), reference=reference, tau=corrupted.tau)
        labels = Labels(reward=batch["reward"], weight=batch.get("weight"))
        return objective.fn(errors, labels, **hyper)

    return loss_fn


def _drop_text(condition: PyTree, probability: float, rng: Array, b: int) -> PyTree:
    dropped = jax.random.bernoulli(rng, probability, (b,))

    def choose(with_text: Array, without_text: Array) -> Array:
        rows = dropped.reshape(-1, *[1] * (with_text.ndim - 1))
        return jnp.where(rows, without_text, with_text)

    return jax.tree.map(choose, condition, condition.without_text())


def _augment_low_res(condition: PyTree, process: Process, max_tau: float, rng: Array) -> PyTree:
    time_rng, noise_rng = jax.random.split(rng)
    low_res = condition.low_res
    tau = jax.random.uniform(time_rng, low_res.shape[:1], maxval=max_tau)
    noise = jax.random.normal(noise_rng, low_res.shape)
    return condition.replace(low_res=process.corrupt(low_res, noise, tau), low_res_tau=tau)
