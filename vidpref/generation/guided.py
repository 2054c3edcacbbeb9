"""Flow-NRG's sampler: a generator that is steered by a latent reward model (VideoAlign 4.4)."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vidpref.diffusion.nrg import clean_reward_guidance, dimension_weights, noise_reward_guidance
from vidpref.diffusion.samplers import Denoise
from vidpref.generation.generator import Generator
from vidpref.models.condition import Condition
from vidpref.models.latent_reward import LatentReward
from vidpref.typing import Array, Float, PyTree

METHOD = "nrg"  # the `align.method` of runs that guide instead of training the generator
# Fields of `config.align` that only the sampler sees,
GUIDING = ("weights", "scale", "guide_at")
# and those that the reward model is made by, beside its training.
LEARNT = ("dimensions", "layers", "noise_aware", "pairs_per_prompt")
_GUIDES = {"noise": noise_reward_guidance, "clean": clean_reward_guidance}


def check_guidance(config: ConfigDict) -> None:
    """Refuses an `align` section of method "nrg" that cannot work.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    _weights(config)
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
        generator: the generator as it was trained.
        reward: network that scores noisy clips.
        weights: weights of the reward's dimensions.
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
        """What its clips are called, as the generator's."""
        return self.generator.output

    @property
    def steps(self) -> int:
        """Calls of the generator for one clip."""
        return self.generator.steps

    def sample(
        self,
        params: tuple[PyTree, PyTree],
        keys: Array,
        batch: dict,
        guide: Callable[[Denoise, Condition], Denoise] | None = None,
    ) -> Float[Array, "b t h w c"]:
        """Draws one clip a row, as `Generator.sample`; `params` are (generator's, reward's).

        Args:
            params, keys, batch: see `Generator.sample`.
            guide: guidance on top of the reward's.
        """
        network, reward_params = params

        def by_reward(denoise: Denoise, condition: Condition) -> Denoise:
            def reward(x_tau: Array, tau: Array) -> Array:
                return self.reward.apply({"params": reward_params}, x_tau, tau, condition)

            steered = _GUIDES[self.guide_at](
                denoise,
                reward,
                self.generator.process,
                jnp.asarray(self.weights),
                scale=self.scale,
            )
            return steered if guide is None else guide(steered, condition)

        return self.generator.sample(network, keys, batch, by_reward)


def build_guided(generator: Generator, config: ConfigDict) -> GuidedGenerator:
    """Returns the guided generator of an `align` section of method "nrg"."""
    return GuidedGenerator(
        generator,
        build_reward_model(generator, config),
        tuple(_weights(config).tolist()),
        float(config.scale),
        config.guide_at,
    )


def reward_init(generator: Generator, config: ConfigDict):
    """Returns `key -> boxed parameters` of the reward model."""
    module = build_reward_model(generator, config)

    def init(key: Array) -> PyTree:
        return module.init(key, *generator.example())["params"]

    return init


def build_reward_model(generator: Generator, config: ConfigDict) -> LatentReward:
    """Returns the reward model of an `align` section: the generator's first layers and a head."""
    backbone = generator.module.clone(layers=config.layers)
    return LatentReward(backbone=backbone, dims=len(config.dimensions))


def _weights(config: ConfigDict) -> Float[np.ndarray, " d"]:
    """The weights of `config.dimensions`; what weighs nothing may have any name."""
    weights = {name: weight for name, weight in config.weights.items() if weight}
    return dimension_weights(weights, tuple(config.dimensions))
