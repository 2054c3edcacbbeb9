"""Flow-NRG in the stages: a latent reward model of the generator's first layers, and its guidance.

VideoAlign 4.4: nothing of the generator is trained. What a round makes is a reward of noisy clips,
by which the sampler of the unchanged generator is steered.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax.core import meta
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.diffusion.nrg import clean_reward_guidance, dimension_weights, noise_reward_guidance
from vidpref.diffusion.samplers.steps import Denoise
from vidpref.models.condition import Condition
from vidpref.models.latent_reward import TRUNK, LatentReward, from_generator
from vidpref.objectives.preference import Preference
from vidpref.stages.generator import Generator
from vidpref.stages.label import read_labels
from vidpref.stages.material import Material
from vidpref.stages.sample import read_clips
from vidpref.stages.train import fit_rows
from vidpref.training.checkpoints import save_params
from vidpref.training.latent_reward import make_latent_reward_loss
from vidpref.typing import Array, Float, PyTree

METHOD = "nrg"  # the `align.method` of runs that guide instead of training the generator
# Fields of `config.align` that only the sampler sees,
GUIDING = ("weights", "scale", "guide_at")
# and those that the reward model does not depend on.
NOT_LEARNT = (*GUIDING, "policy", "validation")
_GUIDES = {"noise": noise_reward_guidance, "clean": clean_reward_guidance}


def check(config: ConfigDict) -> None:
    """Refuses an `align` section of method "nrg" that cannot work.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    dimension_weights(config.weights.to_dict(), tuple(config.dimensions))
    if config.guide_at not in _GUIDES:
        known = ", ".join(_GUIDES)
        raise ValueError(f"config.align.guide_at={config.guide_at!r}: known are {known}")
    for field in ("layers", "pairs_per_prompt"):
        if config[field] < 1:
            raise ValueError(f"config.align.{field}={config[field]}: must be 1 or more")


@dataclasses.dataclass(frozen=True)
class GuidedGenerator:
    """A generator whose sampler is steered by a latent reward; its params are those of both.

    Attributes:
        generator: as it was trained.
        reward: scores noisy clips.
        weights: of the reward's dimensions.
        scale: strength of the guidance.
        guide_at: "noise": the reward of the noisy clip; "clean": of the predicted clean clip.
    """

    generator: Generator
    reward: LatentReward
    weights: tuple[float, ...]
    scale: float
    guide_at: str

    @property
    def output(self) -> str:
        """As the generator's."""
        return self.generator.output

    def sample(
        self, params: tuple[PyTree, PyTree], keys: Array, batch: dict
    ) -> Float[Array, "b t h w c"]:
        """Draws one clip a row, as `Generator.sample`; `params` are (generator's, reward's)."""
        network, reward_params = params

        def guide(denoise: Denoise, condition: Condition) -> Denoise:
            def reward(x_tau: Array, tau: Array) -> Array:
                return self.reward.apply({"params": reward_params}, x_tau, tau, condition)

            return _GUIDES[self.guide_at](
                denoise,
                reward,
                self.generator.process,
                jnp.asarray(self.weights),
                scale=self.scale,
            )

        return self.generator.sample(network, keys, batch, guide)


def build_guided(generator: Generator, config: ConfigDict) -> GuidedGenerator:
    """Returns the guided generator of an `align` section of method "nrg"."""
    weights = dimension_weights(config.weights.to_dict(), tuple(config.dimensions))
    return GuidedGenerator(
        generator,
        _reward(generator, config),
        tuple(weights.tolist()),
        float(config.scale),
        config.guide_at,
    )


def reward_init(generator: Generator, config: ConfigDict):
    """Returns `key -> boxed parameters` of the reward model."""
    module = _reward(generator, config)

    def init(key: Array) -> PyTree:
        return module.init(key, *generator.example())["params"]

    return init


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
    module = _reward(generator, config)
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


def _reward(generator: Generator, config: ConfigDict) -> LatentReward:
    backbone = generator.module.clone(layers=config.layers)
    return LatentReward(backbone=backbone, dims=len(config.dimensions))


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
