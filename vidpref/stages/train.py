"""The one call through which every network is trained, and what a section of a config trains."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.training import loop_settings
from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.pipeline import training_batches
from vidpref.generation.generator import Generator
from vidpref.losses.alignment import PRETRAINED, AlignmentLoss, make_alignment_loss
from vidpref.losses.reward_gradient import JUDGE, RewardGradientLoss
from vidpref.objectives.alignment import OBJECTIVES, needs_real_clips
from vidpref.stages.rows.fresh import SceneRows
from vidpref.stages.rows.shapes import RowShape
from vidpref.training.loop import fit
from vidpref.training.plan import Plan, make_plan
from vidpref.training.processes import share_of
from vidpref.training.rollouts import Rollout
from vidpref.training.sharding import batch_sharding
from vidpref.training.tuning import Everything, Tuning
from vidpref.typing import PyTree


@dataclasses.dataclass(frozen=True)
class ErrorSettings:
    """How denoising errors are measured in training; see `make_alignment_loss`.

    Attributes:
        error_in: space of the error.
        reduction: "mean" or "sum" over a clip.
        condition_dropout: probability that a row loses its text.
        low_res_augmentation: latest time of the noise on a low-resolution input.
    """

    error_in: str
    reduction: str = "mean"
    condition_dropout: float = 0.0
    low_res_augmentation: float = 0.0


@dataclasses.dataclass(frozen=True)
class JudgeInside:
    """A judge whose network is part of the loss, in shapes.

    Attributes:
        loss: which asks it.
        params: `mesh -> parameters` as `jax.ShapeDtypeStruct`s with shardings.
        rows: what it reads of a row besides the clip, by name, without the axis of rows.
    """

    loss: RewardGradientLoss
    params: Callable[[Mesh], PyTree]
    rows: Mapping[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class Training:
    """What a section of a config trains: the stage runs it, and the planner compiles it.

    Attributes:
        plan: the run.
        section: section of the config.
        generator: whose clips are learnt from.
        row: what a training row holds.
        needs_reference: whether the loss has a reference that stands still.
        needs_pretrained: whether it has one besides, which is only diverged from.
        warning: see `fit`.
        judge: the judge in the loss; None for none.
    """

    plan: Plan
    section: ConfigDict
    generator: Generator
    row: RowShape
    needs_reference: bool = False
    needs_pretrained: bool = False
    warning: Callable[[Mapping[str, float]], str] | None = None
    judge: JudgeInside | None = None

    def frozen(
        self, params: PyTree, reference: PyTree | None = None, judge: PyTree | None = None
    ) -> dict[str, PyTree]:
        """Returns what the loss needs besides the trainable parameters.

        Args:
            params: those of the network at the start; None for fresh ones.
            reference: the reference policy, by default `params`.
            judge: parameters of the judge in the loss, where there is one.
        """
        tuning, beside = self.plan.tuning, {} if judge is None else {JUDGE: judge}
        reference = params if reference is None else reference
        if self.needs_pretrained:
            beside[PRETRAINED] = tuning.frozen(params, reference)
        if not self.needs_reference:
            return tuning.frozen(params) | beside
        return tuning.frozen(params, reference) | beside


def generator_training(
    generator: Generator,
    section: ConfigDict,
    tuning: Tuning,
    mesh: Mesh,
    *,
    objective: str,
    hyper: Mapping[str, Any],
    k: int,
    errors: ErrorSettings,
    name: str,
) -> Training:
    """Returns the training of a generator by an objective, of all or a part of its parameters.

    Args:
        generator: what to train.
        section: section of the config; its `train` says how, see `make_plan`.
        tuning: what of the generator is trained.
        mesh: devices.
        objective: name in `OBJECTIVES`.
        hyper: hyper-parameters of the objective.
        k: clips of a row.
        errors: how the errors are measured.
        name: name of the run, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    settings, spec = loop_settings(section.train), OBJECTIVES[objective]
    follows = settings.reference_decay > 0  # then the training state holds the reference
    if spec.learns_from_advantages:  # held to the policy that drew, which moves between drawings
        follows, settings.reference_every = True, section.online.updates
    loss_fn = generator_loss(generator, objective, hyper, errors, tuning)
    return Training(
        make_plan(tuning, loss_fn, settings, mesh, name=name, follows=follows),
        section,
        generator,
        RowShape(
            k,
            motion=spec.needs_motion,
            real=needs_real_clips(hyper),
            pair_score=spec.needs_pair_score(hyper),
        ),
        needs_reference=spec.needs_reference and not follows,
        needs_pretrained=spec.diverges,
        warning=loss_fn.warning,
    )


def train(
    folder: Path,
    training: Training,
    rows: ClipRows | SceneRows,
    *,
    seed: int,
    params: PyTree | None = None,
    reference: PyTree | None = None,
    beside: ClipRows | None = None,
    validate: Callable[[PyTree], dict[str, float]] | None = None,
    rollout: Rollout | None = None,
    judge: PyTree | None = None,
) -> None:
    """Runs a plan on batches of `rows` and writes what was trained, see `Tuning.save`.

    Args:
        folder: checkpoints, metrics and the final parameters go here.
        training: what to train.
        rows: the training rows.
        seed: seed of parameters, batches and noise.
        params: parameters of the whole network to start from instead of fresh ones.
        reference: the reference policy, by default `params`.
        beside: real clips that are mixed in, one a row.
        validate: metrics of a whole network's parameters, at every checkpoint.
        rollout: what the policy draws from rows before a step learns from it.
        judge: parameters of the judge in the loss.
    """
    plan = training.plan
    tuning, settings = plan.tuning, plan.settings
    batches = training_batches(
        rows,
        batch_size=settings.batch_size,
        seed=seed,
        beside=beside,
        shapes=rows.shapes,
        positions=share_of(batch_sharding(plan.mesh), settings.batch_size).held,
    )

    def evaluate(trainable: PyTree, step: int) -> dict[str, float]:
        return validate(tuning.whole(trainable, params))

    state = fit(
        plan,
        batches,
        folder,
        seed=seed,
        start=tuning.start(params),
        frozen=training.frozen(params, reference, judge),
        evaluate=None if validate is None else evaluate,
        warning=training.warning,
        rollout=rollout,
    )
    tuning.save(folder, state.ema if settings.ema_decay else state.params, params)


def generator_loss(
    generator: Generator,
    objective: str,
    hyper: Mapping[str, Any],
    errors: ErrorSettings,
    tuning: Tuning | None = None,
) -> AlignmentLoss:
    """Returns the loss of `generator_training`; arguments as there, by default all is trained."""
    return make_alignment_loss(
        generator.apply,
        generator.process,
        objective,
        dict(hyper),
        make_condition=generator.condition,
        tuning=tuning or Everything(generator.init),
        **dataclasses.asdict(errors),
    )
