"""The latent-reward stage: a reward of noisy clips, from pairs of labelled ones.

VideoAlign 4.4 steers the sampler of the unchanged generator by it (Flow-NRG); PRFL trains the
generator on its gradient.
"""

from pathlib import Path

import jax
import numpy as np
import pandas as pd
from flax.core import meta
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.online import LATENT
from vidpref.config.training import loop_settings
from vidpref.datasets.clip_rows import ClipRows
from vidpref.generation.generator import Generator
from vidpref.generation.guided import build_reward_model, reward_init
from vidpref.losses.latent_reward import make_latent_reward_loss
from vidpref.models.latent_reward import TRUNK, from_generator
from vidpref.objectives.preference import Preference
from vidpref.stages.label import labels_of
from vidpref.stages.rows.inputs import RowInputs
from vidpref.stages.rows.shapes import RowShape
from vidpref.stages.sample import read_clips
from vidpref.stages.train import Training, train
from vidpref.training.plan import make_plan
from vidpref.training.tuning import Everything
from vidpref.typing import Array, PyTree


def reward_training(
    config: ConfigDict, generator: Generator, mesh: Mesh, *, name: str = "latent-reward"
) -> Training:
    """Returns what trains the reward of an `align` section, of method "nrg" or "prfl".

    Args:
        config: the `align` section; of "prfl" its `reward_train` counts, else its `train`.
        generator: the generator whose first layers the reward model starts from.
        mesh: devices.
        name: name of the stage, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    module = build_reward_model(generator, config)
    loss_fn = make_latent_reward_loss(
        lambda params, x, tau, condition: module.apply({"params": params}, x, tau, condition),
        generator.process,
        dims=tuple(config.dimensions),
        make_condition=generator.condition,
        noise_aware=config.noise_aware,
    )
    tuning = Everything(reward_init(generator, config))
    train = config.reward_train if config.method == LATENT else config.train
    plan = make_plan(tuning, loss_fn, loop_settings(train), mesh, name=name)
    return Training(plan, config, generator, RowShape(2, preferences=len(config.dimensions)))


def train_reward(
    folder: Path, training: Training, row_inputs: RowInputs, *, seed: int, params: PyTree
) -> None:
    """Trains the reward model on pairs of labelled clips and writes `folder/params`.

    Args:
        folder: the stage's folder.
        training: result of `reward_training`.
        row_inputs: sampled clips with labels.
        seed: seed of pairs, batches and noise.
        params: parameters of the generator.
    """
    config, init = training.section, training.plan.tuning.init

    def fresh_head(key: Array) -> PyTree:
        return {k: v for k, v in meta.unbox(init(key)).items() if k not in TRUNK}

    head = jax.jit(fresh_head)(jax.random.key(seed))
    start = {**head, **from_generator(params, config.layers)}
    train(folder, training, _pairs(row_inputs, config, seed), seed=seed, params=start)


def _pairs(row_inputs: RowInputs, config: ConfigDict, seed: int) -> ClipRows:
    """Random pairs of clips of the same scene, each with a preference in every dimension."""
    clips = read_clips(row_inputs.clips)
    labels = labels_of(clips, row_inputs.labels)
    rng = np.random.default_rng(seed)
    rows = []
    for _, of_scene in labels.groupby("scene_id", sort=True):
        indices = of_scene.index.to_numpy()
        pairs = np.stack(np.triu_indices(len(indices), 1), axis=1)
        drawn = rng.permutation(len(pairs))[: config.pairs_per_prompt]
        rows.append(indices[rng.permuted(pairs[drawn], axis=1)])
    rows = np.concatenate(rows)
    preference = _preferences(labels, rows, tuple(config.dimensions))
    rewards = np.zeros(rows.shape, np.float32)
    return row_inputs.rows(clips, rows, rewards, labels={"preference": preference})


def _preferences(labels: pd.DataFrame, rows: np.ndarray, dimensions: tuple[str, ...]) -> np.ndarray:
    missing = [name for name in dimensions if name not in labels]
    if missing:
        raise ValueError(
            f"config.align.dimensions has {missing[0]!r}, which the judge did not score; add it to "
            "config.reward.dimensions"
        )
    scores = labels[list(dimensions)].astype(np.float64)
    first, second = (scores.loc[rows[:, i]].to_numpy() for i in (0, 1))
    worse = np.where(first < second, Preference.B, Preference.TIE)
    return np.where(first > second, Preference.A, worse).astype(np.int32)
