"""The loss of pre-training and of every alignment method: corrupt, denoise, compare."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vidpref.diffusion.denoising import Corrupted, Denoised, corrupt_clips, denoised_clips
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.process import Process
from vidpref.objectives.alignment import (
    OBJECTIVES,
    Errors,
    Labels,
    ObjectiveSpec,
    check_hyper,
    leash_warning,
    needs_real_clips,
)
from vidpref.pixels import to_unit
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, Key, PyTree

PRETRAINED = "pretrained"  # in `frozen`, what finds the policy that training started from


@dataclasses.dataclass(frozen=True, eq=False)  # jit needs a hash, which the dict has not
class AlignmentLoss:
    """`loss_fn(trainable, frozen, batch, rng) -> (loss, metrics)`; see `make_alignment_loss`."""

    apply: Callable[[PyTree, Array, Array, PyTree], Array]
    process: Process
    name: str
    objective: ObjectiveSpec
    hyper: Mapping[str, Any]
    make_condition: Callable[[Mapping[str, Array]], PyTree]
    error_in: str | None
    reduction: str
    tuning: Tuning
    condition_dropout: float
    low_res_augmentation: float

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        errors, labels = self._errors(trainable, frozen, batch, rng)
        if self.objective.statistics is None:
            return self.objective.fn(errors, labels, **self.hyper)
        return self.objective.fn(errors, labels, frozen.get("statistics"), **self.hyper)

    def warning(self, metrics: Mapping[str, float]) -> str:
        """Returns what to tell the user of the first metrics of a run; "" for nothing."""
        if "leash" not in metrics:
            return ""
        process = "flow" if isinstance(self.process, RectifiedFlow) else "ddpm"
        return leash_warning(self.name, self.hyper, metrics["leash"], process)

    def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Returns what the means over a batch are divided by; nothing where all rows weigh alike.

        The training step puts microbatches together by it.
        """
        return {"loss": batch["weight"].sum()} if "weight" in batch else {}

    @property
    def needs_statistics(self) -> bool:
        """Whether the loss of a microbatch depends on the others, through `statistics`."""
        return self.objective.statistics is not None

    def statistics(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> dict[str, Array]:
        """Returns what the loss must know of the whole batch; equal microbatches are averaged.

        The training step puts the average into `frozen["statistics"]`.
        """
        errors, labels = self._errors(jax.lax.stop_gradient(trainable), frozen, batch, rng)
        return self.objective.statistics(errors, labels, **self.hyper)

    def _errors(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Errors, Labels]:
        self.objective.check_k(batch["clips"].shape[1], self.name)
        noise_rng, condition_rng = jax.random.split(rng)
        real_rng, policy_rng = jax.random.split(jax.random.fold_in(rng, 1))
        rows = self._corrupted(batch, noise_rng), self._condition(batch, condition_rng)
        groups = [rows]
        if needs_real_clips(self.hyper):
            real = batch["real"]
            groups.append((self._corrupted(real, real_rng), self.make_condition(real)))

        def denoised(params: PyTree, groups: list[tuple[Corrupted, PyTree]]) -> Denoised:
            return denoised_clips(
                functools.partial(self.apply, params),
                self.process,
                groups,
                error_in=self.error_in,
                reduction=self.reduction,
            )

        policy = self.tuning.policy(trainable, frozen, policy_rng)
        made = denoised(policy, groups)
        own, *real = made.errors()
        reference = distance = mismatched = moved = reference_moved = None
        if self.objective.needs_reference:
            other = jax.lax.stop_gradient(self.tuning.reference(frozen))
            of_other = denoised(other, [rows])
            (reference,) = of_other.errors()
            if self.objective.needs_distance:
                (distance,) = made.distances(of_other)
            if self.objective.diverges and PRETRAINED in frozen:
                pretrained = jax.lax.stop_gradient(self.tuning.reference(frozen[PRETRAINED]))
                of_pretrained = denoised(pretrained, [rows])
                (moved,) = made.output_distances(of_pretrained)
                (reference_moved,) = of_other.output_distances(of_pretrained)
            if self.objective.needs_mismatched(self.hyper):
                if len(rows[0].tau) == 1:
                    raise ValueError(
                        f"{self.name} with {dict(self.hyper)} takes the condition of another row, "
                        "and a microbatch has one row: a larger batch, or less accumulate"
                    )
                wrong = [(rows[0], jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), rows[1]))]
                moved = denoised(other, wrong).errors()[0] - denoised(policy, wrong).errors()[0]
                mismatched = jax.lax.stop_gradient(moved)
        errors = Errors(
            policy=own,
            reference=reference,
            tau=rows[0].tau,
            real=real[0] if real else None,
            mismatched=mismatched,
            distance=distance,
            moved=moved,
            reference_moved=reference_moved,
        )
        labels = Labels(
            reward=batch["reward"],
            weight=batch.get("weight"),
            motion=batch["motion"] if self.objective.needs_motion else None,
            pair_score=(
                batch["pair_score"] if self.objective.needs_pair_score(self.hyper) else None
            ),
        )
        return errors, labels

    def _corrupted(self, batch: Mapping[str, Array], rng: Key[Array, ""]) -> Corrupted:
        clips = batch["clips"]
        x0 = to_unit(clips) if clips.dtype == jnp.uint8 else clips.astype(jnp.float32)
        return corrupt_clips(self.process, rng, x0)

    def _condition(self, batch: Mapping[str, Array], rng: Key[Array, ""]) -> PyTree:
        condition = self.make_condition(batch)
        drop_rng, low_res_rng = jax.random.split(rng)
        if self.condition_dropout:
            b = batch["clips"].shape[0]
            condition = _drop_text(condition, self.condition_dropout, drop_rng, b)
        if "low_res" in batch:
            condition = _augment_low_res(
                condition, self.process, self.low_res_augmentation, low_res_rng
            )
        return condition


def make_alignment_loss(
    apply: Callable[[PyTree, Array, Array, PyTree], Array],
    process: Process,
    objective_name: str,
    hyper: Mapping[str, Any],
    *,
    make_condition: Callable[[Mapping[str, Array]], PyTree],
    error_in: str | None,
    reduction: str,
    tuning: Tuning,
    condition_dropout: float = 0.0,
    low_res_augmentation: float = 0.0,
) -> AlignmentLoss:
    """Returns `loss_fn(trainable, frozen, batch, rng) -> (loss, metrics)`.

    A batch holds `clips` [b, k, t, h, w, c] (uint8 pixels, or floating latents), `reward` [b, k],
    what `make_condition` reads, and where needed `weight` [b] (0 for a padding row), `motion`
    [b, k, 2] for McDPO, `pair_score` [b] for VideoDPO's weights, and `real`: a batch of b rows of
    one real clip with conditions of their own. The k clips of a row share time, noise and
    condition, and all clips go through the network in one batch.

    Args:
        apply: `(params, x_tau, tau, condition) -> output`; `params` are what `tuning` finds.
        process: noise process.
        objective_name: name in `OBJECTIVES`.
        hyper: the objective's hyper-parameters.
        make_condition: from a batch, the condition of its b rows: a struct of arrays with
            `repeat(k)`, `without_text()` and, for super-resolution, `low_res` and `low_res_tau`.
        error_in, reduction: see `denoising_errors`.
        tuning: what is trained; it finds the policy and its reference for `apply`.
        condition_dropout: probability that a row loses its text, so that the network also learns
            the unconditional branch of guidance.
        low_res_augmentation: the low-resolution input is corrupted up to this time, so that the
            super-resolution network tolerates artefacts of the base generator (Ho et al. 2022,
            "Cascaded diffusion models", section 4).

    Raises:
        ValueError: a wrong objective, hyper-parameter or probability; from `loss_fn`, a batch with
            another number of clips a row than the objective's, or of one row where the reference
            point takes the condition of another.
    """
    check_hyper(objective_name, hyper)
    for name, value in (
        ("condition_dropout", condition_dropout),
        ("low_res_augmentation", low_res_augmentation),
    ):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value} must lie in [0, 1]")
    return AlignmentLoss(
        apply=apply,
        process=process,
        name=objective_name,
        objective=OBJECTIVES[objective_name],
        hyper={k: v if isinstance(v, str) else float(v) for k, v in hyper.items()},
        make_condition=make_condition,
        error_in=error_in,
        reduction=reduction,
        tuning=tuning,
        condition_dropout=condition_dropout,
        low_res_augmentation=low_res_augmentation,
    )


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
