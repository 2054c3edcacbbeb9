"""The align stage: rows of clips, an objective over them, a better policy."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.align import FRESH_ROWS
from vidpref.config.fields import lookup
from vidpref.config.online import BACKPROPAGATED, FROM_ADVANTAGES, PIXELS, TRAJECTORIES
from vidpref.config.schema import counts_in
from vidpref.generation.adapters import trained_adapters
from vidpref.generation.generator import Generator
from vidpref.objectives.alignment import OBJECTIVES, check_hyper, hyper_field
from vidpref.stages.online import backpropagation
from vidpref.stages.online import training as online
from vidpref.stages.online.checks import ONLINE
from vidpref.stages.online.checks import check as check_online
from vidpref.stages.online.checks import check_rows as check_fresh_rows
from vidpref.stages.online.pixel_judge import PixelJudge
from vidpref.stages.rows.fresh import SceneRows
from vidpref.stages.rows.inputs import RowInputs
from vidpref.stages.rows.sampled import check_rows, real_rows, row_builder
from vidpref.stages.train import ErrorSettings, Training, generator_training, train
from vidpref.training.rollouts import Rollout
from vidpref.training.tuning import make_tuning
from vidpref.typing import PyTree


def hyper_parameters(config: ConfigDict) -> dict[str, float | str]:
    """Returns the objective's hyper-parameters in `config.align`; {} without an objective.

    Raises:
        ValueError: an unknown method, or a value out of its range.
    """
    if config.method not in OBJECTIVES:
        return {}
    hyper = {name: lookup(config, hyper_field(name)) for name in OBJECTIVES[config.method].hyper}
    check_hyper(config.method, hyper)
    return hyper


def settings(config: ConfigDict) -> dict[str, Any]:
    """Returns what is worth a line of an alignment: the fields of its method that count.

    Args:
        config: the whole config.
    """
    section = config.align
    fields = [*map(hyper_field, hyper_parameters(section)), "reduction", "real_weight"]
    fields += [f"online.{name}" for name in section.online]
    return {
        field: lookup(section, field)
        for field in dict.fromkeys(fields)
        if counts_in(f"align.{field}", config)
    }


def check(config: ConfigDict, generator: Generator) -> None:
    """Refuses an `align` section that cannot work, before anything is computed.

    Args:
        config: the whole config.
        generator: the base generator.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    section = config.align
    hyper_parameters(section)
    if section.method in OBJECTIVES:
        check_rows(section)
    if section.method in ONLINE or section.rows in FRESH_ROWS:
        check_online(config, generator)
    _with_times(generator, section)
    tuning = make_tuning(generator.init, section, trained_adapters(config, generator))
    jax.eval_shape(tuning.init, jax.random.key(0))  # its targets or parts must match
    follows = section.method not in FROM_ADVANTAGES and section.train.reference_decay
    if section.reference == "pretrained" and follows:
        raise ValueError(
            "config.align.reference='pretrained': with config.align.train.reference_decay the "
            "reference follows the policy from where that starts; use 'previous'"
        )


def alignment(
    config: ConfigDict,
    generator: Generator,
    mesh: Mesh,
    *,
    judge: PixelJudge | None = None,
    name: str = "align",
) -> Training:
    """Returns what the `align` section of a config trains.

    Args:
        config: the whole config.
        generator: the base generator.
        mesh: devices.
        judge: of pixels, for `vader`; None: as the config says, without weights.
        name: name of the stage, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    section = config.align
    timed = _with_times(generator, section)
    tuning = make_tuning(generator.init, section, trained_adapters(config, generator))
    if section.rows in FRESH_ROWS:
        check_fresh_rows(section, mesh)
    if section.method == TRAJECTORIES:
        return online.trajectory_training(config, generator, timed, tuning, mesh, name=name)
    if section.method in BACKPROPAGATED:
        if section.method == PIXELS and judge is None:
            judge = PixelJudge.of(config, generator, mesh)
        real = online.data_term(config, timed, tuning)
        return backpropagation.gradient_training(
            config, generator, tuning, mesh, real=real, judge=judge, name=name
        )
    return generator_training(
        timed,
        section,
        tuning,
        mesh,
        objective=section.method,
        hyper=hyper_parameters(section),
        k=row_builder(section).k(section),
        errors=ErrorSettings(
            section.error_in or config.diffusion.error_in,
            section.reduction,
            section.condition_dropout,
        ),
        name=name,
    )


def align(
    folder: Path,
    training: Training,
    row_inputs: RowInputs,
    *,
    seed: int,
    params: PyTree,
    reference: PyTree | None = None,
    validate: Callable[[PyTree], dict[str, float]] | None = None,
    rollout: Callable[[SceneRows, Path], Rollout] | None = None,
    judge: PyTree | None = None,
) -> None:
    """Trains the policy and writes it to `folder/params`, or its adapters to `folder/adapters`.

    Args:
        folder: the stage's folder.
        training: result of `alignment`.
        row_inputs: clips to learn from.
        seed: seed of batches and noise.
        params: where the policy starts: a network, or `Adapted` to train its adapters on.
        reference: the reference policy, by default `params`.
        validate: sampled acceptance of a policy, for the choice of the checkpoint.
        rollout: of rows that are scenes, and `folder`, what draws and judges their clips.
        judge: parameters of the judge that is part of the loss.
    """
    config = training.section
    row_inputs = dataclasses.replace(row_inputs, seed=seed, folder=folder)
    rows = row_builder(config).build(row_inputs, config)
    train(
        folder,
        training,
        rows,
        seed=seed,
        params=params,
        reference=reference,
        beside=real_rows(row_inputs, config.real_clips) if training.row.real else None,
        validate=validate if config.train.best_metric else None,
        rollout=None if rollout is None else rollout(rows, folder),
        judge=judge,
    )


def _with_times(generator: Generator, config: ConfigDict) -> Generator:
    """The generator with the training times of `config`."""
    times = {"time_range": tuple(config.time_range)}
    if config.time and hasattr(generator.process, "time"):
        times["time"] = config.time
    return dataclasses.replace(generator, process=dataclasses.replace(generator.process, **times))
