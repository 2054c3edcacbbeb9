"""The align stage: rows of clips, an objective over them, a better policy."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.diffusion.conversions import check_kind
from vidpref.diffusion.denoising import REDUCTIONS
from vidpref.generation.generator import Generator
from vidpref.objectives.alignment import OBJECTIVES, check_hyper, needs_real_clips
from vidpref.stages.rows.inputs import RowInputs
from vidpref.stages.rows.sampled import check_rows, real_rows, row_builder
from vidpref.stages.train import Training, generator_training, train
from vidpref.training.tuning import make_tuning
from vidpref.typing import PyTree

REFERENCES = ("previous", "pretrained")


def hyper_parameters(config: ConfigDict) -> dict[str, float | str]:
    """Returns the objective's hyper-parameters in `config.align`.

    Raises:
        ValueError: an unknown method, or a value out of its range.
    """
    hyper = {name: config[name] for name in OBJECTIVES[config.method].hyper if name in config}
    check_hyper(config.method, hyper)
    return hyper


def check(config: ConfigDict, generator: Generator) -> None:
    """Refuses an `align` section that cannot work, before anything is computed.

    Args:
        config: the `align` section.
        generator: the base generator.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    hyper = hyper_parameters(config)
    check_rows(config)
    _in_time_range(generator, config)
    if config.get("reduction", REDUCTIONS[0]) not in REDUCTIONS:
        known = ", ".join(REDUCTIONS)
        raise ValueError(f"config.align.reduction={config.reduction!r}: known are {known}")
    if config.get("error_in"):
        check_kind(config.error_in, "config.align.error_in")
    tuning = make_tuning(generator.init, config)
    jax.eval_shape(tuning.init, jax.random.key(0))  # its targets or parts must match
    if config.get("reference", REFERENCES[0]) not in REFERENCES:
        known = ", ".join(REFERENCES)
        raise ValueError(f"config.align.reference={config.reference!r}: known are {known}")
    if config.get("reference") == "pretrained" and config.train.get("reference_decay", 0.0):
        raise ValueError(
            "config.align.reference='pretrained': with config.align.train.reference_decay the "
            "reference follows the policy from where that starts; use 'previous'"
        )
    if needs_real_clips(hyper) and "real_clips" not in config:
        raise ValueError(
            f"config.align.real_weight={config.real_weight} mixes real clips in, but "
            "config.align.real_clips does not say how many (0: all)"
        )


def needs_data(config: ConfigDict) -> bool:
    """Whether the stage reads clips of the data set, not only samples."""
    mixes_in = bool(config.get("real_weight", 0.0))
    return mixes_in or "real_clips" in row_builder(config).fields


def alignment(
    config: ConfigDict, generator: Generator, mesh: Mesh, *, name: str = "align"
) -> Training:
    """Returns what the `align` section of a config trains.

    Args:
        config: the whole config.
        generator: the base generator.
        mesh: devices.
        name: name of the stage, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    section = config.align
    return generator_training(
        _in_time_range(generator, section),
        section,
        mesh,
        objective=section.method,
        hyper=hyper_parameters(section),
        k=row_builder(section).k(section),
        error_in=section.get("error_in") or config.diffusion.error_in,
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
) -> None:
    """Trains the policy and writes it to `folder/params`, or its adapters to `folder/adapters`.

    Args:
        folder: the stage's folder.
        training: result of `alignment`.
        row_inputs: clips to learn from.
        seed: seed of batches and noise.
        params: where the policy starts.
        reference: the reference policy, by default `params`.
        validate: sampled acceptance of a policy, for the choice of the checkpoint.
    """
    config = training.section
    row_inputs = dataclasses.replace(row_inputs, seed=seed, folder=folder)
    train(
        folder,
        training,
        row_builder(config).build(row_inputs, config),
        seed=seed,
        params=params,
        reference=reference,
        beside=real_rows(row_inputs, config.real_clips) if training.row.real else None,
        validate=validate if config.train.get("best_metric", "") else None,
    )


def _in_time_range(generator: Generator, config: ConfigDict) -> Generator:
    """The generator with its training times within `config.time_range`, where there is one."""
    if "time_range" not in config:
        return generator
    process = dataclasses.replace(generator.process, time_range=tuple(config.time_range))
    return dataclasses.replace(generator, process=process)
