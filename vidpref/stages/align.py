"""The align stage: rows of clips, an objective over them, a better policy."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.diffusion.conversions import check_kind
from vidpref.diffusion.denoising import REDUCTIONS
from vidpref.generation.adapters import lora_spec
from vidpref.generation.generator import Generator
from vidpref.objectives.alignment import check_hyper, needs_real_clips
from vidpref.stages.rows.inputs import Material
from vidpref.stages.rows.sampled import check_rows, kind_of, real_rows
from vidpref.stages.train import train
from vidpref.typing import PyTree

REFERENCES = ("previous", "pretrained")
# Fields of `config.align` that are not hyper-parameters of the objective.
_SETTINGS = (
    *("method", "policy", "train", "validation", "reduction", "lora", "reference"),
    *("time_range", "error_in", "condition_dropout"),
    *("rows", "pairs", "max_pairs_per_prompt", "reward", "normalize_reward"),
    *("real_clips", "losers"),
)


def hyper_parameters(config: ConfigDict) -> dict[str, float | str]:
    """Returns the objective's hyper-parameters in `config.align`.

    Raises:
        ValueError: an unknown method, or a value out of its range.
    """
    hyper = {k: v for k, v in config.items() if k not in _SETTINGS}
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
    if "error_in" in config:
        check_kind(config.error_in, "config.align.error_in")
    spec = lora_spec(config)
    if spec is not None:  # its targets must match
        key = jax.random.key(0)
        jax.eval_shape(spec.init, key, jax.eval_shape(generator.init, key))
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
    return "real_clips" in config


def align(
    folder: Path,
    *,
    generator: Generator,
    params: PyTree,
    reference: PyTree | None,
    material: Material,
    config: ConfigDict,
    error_in: str,
    seed: int,
    mesh: Mesh,
    validate: Callable[[PyTree], dict[str, float]],
) -> None:
    """Trains the policy and writes `folder/params`.

    Args:
        folder: the stage's folder.
        generator: the base generator.
        params: where the policy starts.
        reference: the reference policy, by default `params`.
        material: the clips.
        config: the `align` section.
        error_in: space of the denoising error.
        seed: of batches and noise.
        mesh: devices.
        validate: sampled acceptance of a policy, for the choice of the checkpoint.
    """
    hyper = hyper_parameters(config)
    train(
        folder,
        generator=_in_time_range(generator, config),
        rows=kind_of(config).build(material, config, seed, folder),
        objective=config.method,
        hyper=hyper,
        config=config,
        error_in=error_in,
        seed=seed,
        mesh=mesh,
        params=params,
        reference=reference,
        beside=real_rows(material, config.real_clips) if needs_real_clips(hyper) else None,
        validate=validate if config.train.best_metric else None,
    )


def _in_time_range(generator: Generator, config: ConfigDict) -> Generator:
    """The generator with its training times within `config.time_range`, where there is one."""
    if "time_range" not in config:
        return generator
    process = dataclasses.replace(generator.process, time_range=tuple(config.time_range))
    return dataclasses.replace(generator, process=process)
