"""The pretrain stage, and the one call through which every generator is trained."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.pipeline import training_batches
from vidpref.datasets.text import TextCache
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.stages.data import Data
from vidpref.stages.generator import Generator, make_condition
from vidpref.training.alignment import make_alignment_loss
from vidpref.training.checkpoints import save_params
from vidpref.training.loop import fit
from vidpref.training.step import LossFn
from vidpref.typing import PyTree


def pretrain(
    folder: Path,
    *,
    generator: Generator,
    data: Data,
    texts: TextCache,
    config: ConfigDict,
    error_in: str,
    seed: int,
    mesh: Mesh,
) -> None:
    """Trains a generator from nothing on the data set's clips and writes `folder/params`.

    Args:
        folder: the stage's folder.
        generator: base or super-resolution generator.
        data: the data set.
        texts: embedding of every prompt.
        config: the `pretrain` or `superres` section.
        error_in: space of the denoising error.
        seed: of parameters, batches and noise.
        mesh: devices.
    """
    rows = np.arange(len(data.clips))[:, None]
    high = generator.low_res_shape is not None
    train(
        folder,
        generator=generator,
        rows=ClipRows(data.clips, rows, np.ones(rows.shape), texts, high=high),
        objective="sft",
        hyper={},
        config=config,
        error_in=error_in,
        seed=seed,
        mesh=mesh,
    )


def train(
    folder: Path,
    *,
    generator: Generator,
    rows: ClipRows,
    objective: str,
    hyper: Mapping[str, Any],
    config: ConfigDict,
    error_in: str,
    seed: int,
    mesh: Mesh,
    params: PyTree | None = None,
    validate: Callable[[PyTree], dict[str, float]] | None = None,
) -> None:
    """Fits a generator to `rows` by an objective and writes `folder/params`.

    Args:
        folder: checkpoints, metrics and the final parameters go here.
        generator: what to train.
        rows: the training rows.
        objective: name in `OBJECTIVES`.
        hyper: its hyper-parameters.
        config: a section with `train` (see `fit`) and, optionally, `reduction`,
            `condition_dropout` and `low_res_augmentation`.
        error_in: space of the denoising error.
        seed: of parameters, batches and noise.
        mesh: devices.
        params: start here instead of at fresh parameters; also the reference policy.
        validate: metrics of a policy at every checkpoint.
    """
    loss_fn = generator_loss(generator, objective, hyper, config, error_in)
    settings = config.train.copy_and_resolve_references()
    with settings.unlocked():
        settings.seed = seed
    batches = training_batches(
        rows,
        batch_size=settings.batch_size,
        seed=seed,
        shard=(jax.process_index(), jax.process_count()),
    )
    needs_reference = OBJECTIVES[objective].needs_reference
    state = fit(
        loss_fn,
        generator.init,
        batches,
        settings,
        folder,
        mesh=mesh,
        init_from=params,
        frozen={"reference": params} if needs_reference else {},
        evaluate=None if validate is None else lambda p, step: validate(p),
        name=folder.name.rsplit("-", 1)[0],
    )
    save_params(folder / "params", state.ema if settings.ema_decay else state.params)


def generator_loss(
    generator: Generator,
    objective: str,
    hyper: Mapping[str, Any],
    config: ConfigDict,
    error_in: str,
) -> LossFn:
    """Returns the loss that `train` minimises; arguments as there."""
    return make_alignment_loss(
        generator.apply,
        generator.process,
        objective,
        dict(hyper),
        make_condition=make_condition,
        error_in=error_in,
        reduction=config.get("reduction", "mean"),
        condition_dropout=config.get("condition_dropout", 0.0),
        low_res_augmentation=config.get("low_res_augmentation", 0.0),
    )
