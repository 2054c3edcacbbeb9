"""The pretrain stage: a generator from nothing, on the clips of the data set."""

from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache
from vidpref.generation.generator import Generator
from vidpref.stages.train import train


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
    train(
        folder,
        generator=generator,
        rows=ClipRows(data.clips, rows, np.ones(rows.shape), texts, clips=generator.output),
        objective="sft",
        hyper={},
        config=config,
        error_in=error_in,
        seed=seed,
        mesh=mesh,
    )
