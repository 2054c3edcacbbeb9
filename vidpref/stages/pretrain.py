"""The pretrain stage: a generator from nothing, on the clips of the data set."""

import dataclasses
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache
from vidpref.generation.generator import Generator
from vidpref.stages.train import ErrorSettings, Training, generator_training, train
from vidpref.training.tuning import Everything


def pretraining(config: ConfigDict, section: str, generator: Generator, mesh: Mesh) -> Training:
    """Returns what the `pretrain` or `superres` section of a config trains.

    Args:
        config: the whole config.
        section: name of the section, which is also that of the stage in messages.
        generator: base or super-resolution generator.
        mesh: devices.

    Raises:
        ValueError: a setting that cannot work.
    """
    errors = ErrorSettings(config.diffusion.error_in)
    if section == "superres":
        augmentation = config.superres.low_res_augmentation
        errors = dataclasses.replace(errors, low_res_augmentation=augmentation)
    else:
        dropout = config.pretrain.condition_dropout
        errors = dataclasses.replace(errors, condition_dropout=dropout)
    return generator_training(
        generator,
        config[section],
        Everything(generator.init),
        mesh,
        objective="sft",
        hyper={},
        k=1,
        errors=errors,
        name=section,
    )


def pretrain(folder: Path, training: Training, data: Data, texts: TextCache, *, seed: int) -> None:
    """Trains a generator from nothing on the data set's clips and writes `folder/params`.

    Args:
        folder: the stage's folder.
        training: result of `pretraining`.
        data: the data set.
        texts: embedding of every prompt.
        seed: seed of parameters, batches and noise.
    """
    rows = np.arange(len(data.clips))[:, None]
    clips = training.generator.output
    train(
        folder,
        training,
        ClipRows(data.clips, rows, np.ones(rows.shape), texts, clips=clips),
        seed=seed,
    )
