"""The latent-reward stage of Flow-NRG: a reward of noisy clips, from pairs of labelled ones.

VideoAlign 4.4: nothing of the generator is trained. What a round makes is a reward of noisy clips,
by which the sampler of the unchanged generator is steered.
"""

from pathlib import Path

import jax
import numpy as np
import pandas as pd
from flax.core import meta
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.generation.generator import Generator
from vidpref.generation.guided import build_reward_model, reward_init
from vidpref.losses.latent_reward import make_latent_reward_loss
from vidpref.models.latent_reward import TRUNK, from_generator
from vidpref.objectives.preference import Preference
from vidpref.stages.label import read_labels
from vidpref.stages.rows.inputs import Material
from vidpref.stages.sample import read_clips
from vidpref.stages.train import fit_rows
from vidpref.training.checkpoints import save_params
from vidpref.typing import Array, PyTree


def train_reward(
    folder: Path,
    *,
    generator: Generator,
    params: PyTree,
    material: Material,
    config: ConfigDict,
    seed: int,
    mesh: Mesh,
) -> None:
    """Trains the reward model on pairs of labelled clips and writes `folder/params`.

    Args:
        folder: the stage's folder.
        generator: the generator whose first layers it starts from.
        params: of that generator.
        material: sampled clips with labels.
        config: the `align` section.
        seed: of pairs, batches and noise.
        mesh: devices.
    """
    module = build_reward_model(generator, config)
    init = reward_init(generator, config)

    def fresh_head(key: Array) -> PyTree:
        return {k: v for k, v in meta.unbox(init(key)).items() if k not in TRUNK}

    head = jax.jit(fresh_head)(jax.random.key(seed))
    loss_fn = make_latent_reward_loss(
        lambda params, x, tau, condition: module.apply({"params": params}, x, tau, condition),
        generator.process,
        dims=tuple(config.dimensions),
        make_condition=generator.condition,
        noise_aware=config.noise_aware,
    )
    state = fit_rows(
        folder,
        loss_fn,
        init,
        _pairs(material, config, seed),
        config.train,
        seed=seed,
        mesh=mesh,
        init_from={**head, **from_generator(params, config.layers)},
    )
    save_params(folder / "params", state.ema if config.train.ema_decay else state.params)


def _pairs(material: Material, config: ConfigDict, seed: int) -> ClipRows:
    """Random pairs of clips of the same scene, each with a preference in every dimension."""
    labels = read_labels(material.labels)
    rng = np.random.default_rng(seed)
    rows = []
    for _, clips in labels.groupby("scene_id", sort=True):
        indices = clips.index.to_numpy()
        pairs = np.stack(np.triu_indices(len(indices), 1), axis=1)
        drawn = rng.permutation(len(pairs))[: config.pairs_per_prompt]
        rows.append(indices[rng.permuted(pairs[drawn], axis=1)])
    rows = np.concatenate(rows)
    preference = _preferences(labels, rows, tuple(config.dimensions))
    rewards = np.zeros(rows.shape, np.float32)
    clips = read_clips(material.clips)
    return material.rows(clips, rows, rewards, labels={"preference": preference})


def _preferences(labels: pd.DataFrame, rows: np.ndarray, dimensions: tuple[str, ...]) -> np.ndarray:
    missing = [name for name in dimensions if name not in labels]
    if missing:
        raise ValueError(
            f"config.align.dimensions has {missing[0]!r}, which the judge did not score; add it to "
            "config.reward.dimensions"
        )
    scores = labels[list(dimensions)].to_numpy(np.float64)
    first, second = scores[rows[:, 0]], scores[rows[:, 1]]
    worse = np.where(first < second, Preference.B, Preference.TIE)
    return np.where(first > second, Preference.A, worse).astype(np.int32)
