"""The generator as the stages use it: network, noise process and sampler behind one object."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.guidance import classifier_free
from vidpref.diffusion.process import Process
from vidpref.diffusion.samplers import sample
from vidpref.diffusion.samplers.steps import Denoise
from vidpref.models.condition import Condition
from vidpref.models.lora import with_lora
from vidpref.models.registry import build_generator
from vidpref.stages.adapters import Adapted
from vidpref.typing import Array, Float, PyTree

PROCESSES = {"ddpm": DDPM, "flow": RectifiedFlow}


@dataclasses.dataclass(frozen=True)
class Generator:
    """A text- and first-frame-conditioned video generator of clips `[b, *clip_shape]`.

    Attributes:
        module: the Linen network, `(x_tau, tau, condition) -> output`.
        process: the noise process that gives the output its meaning.
        clip_shape: (t, h, w, c) of one clip.
        condition_shape: (l, d) of the text embedding; low-resolution (h, w) or None.
        sampler: name, steps, eta and guidance scale.
    """

    module: nn.Module
    process: Process
    clip_shape: tuple[int, int, int, int]
    text_shape: tuple[int, int]
    low_res_shape: tuple[int, int] | None
    sampler: tuple[tuple[str, Any], ...]

    def init(self, key: Array) -> PyTree:
        """Returns fresh parameters, boxed with their logical axis names."""
        return self.module.init(key, *self.example())["params"]

    def example(self) -> tuple[Array, Array, Condition]:
        """Returns arguments of the network for one clip of zeros."""
        t, h, w, c = self.clip_shape
        l, d = self.text_shape
        low_res = None
        if self.low_res_shape:
            low_res = jnp.zeros((1, t, *self.low_res_shape, c))
        condition = Condition(
            text=jnp.zeros((1, l, d)),
            text_mask=jnp.ones((1, l), bool),
            first_frame=jnp.zeros((1, h, w, c)) if self.module.first_frame else None,
            low_res=low_res,
            low_res_tau=None if low_res is None else jnp.zeros((1,)),
        )
        return jnp.zeros((1, t, h, w, c)), jnp.zeros((1,)), condition

    def apply(
        self, params: PyTree, x_tau: Array, tau: Array, condition: Condition
    ) -> Float[Array, "b t h w c"]:
        """Runs the network on corrupted clips; `params` may be `Adapted`."""
        if not isinstance(params, Adapted):
            return self.module.apply({"params": params}, x_tau, tau, condition)
        adapted = with_lora(self.module.apply, params.spec)
        variables, rng = {"params": params.base}, params.dropout_rng
        return adapted(variables, params.adapters, x_tau, tau, condition, dropout_rng=rng)

    def condition(self, batch: Mapping[str, Array]) -> Condition:
        """Returns the network's condition: text, its mask, and what else of a batch it takes."""

        def pixels(name: str) -> Array | None:
            return None if name not in batch else batch[name].astype(jnp.float32) / 127.5 - 1.0

        return Condition(
            text=batch["text"],
            text_mask=batch["text_mask"],
            first_frame=pixels("first_frame") if self.module.first_frame else None,
            low_res=pixels("low_res"),
        )

    def sample(
        self,
        params: PyTree,
        keys: Array,
        batch: dict,
        guide: Callable[[Denoise, Condition], Denoise] | None = None,
    ) -> Float[Array, "b t h w c"]:
        """Draws one clip a row in [-1, 1]; row i depends only on `keys[i]` and row i of `batch`.

        Args:
            params: of the network.
            keys: one a row.
            batch: conditions.
            guide: `(denoise, condition) -> denoise`, guidance on top of the classifier-free one.
        """
        settings = dict(self.sampler)
        condition = self.condition(batch)
        if condition.low_res is not None:
            condition = condition.replace(low_res_tau=jnp.zeros(keys.shape))
        noise_keys, sampler_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        noise = jax.vmap(lambda key: jax.random.normal(key, self.clip_shape))(noise_keys)
        denoise = classifier_free(
            functools.partial(self.apply, params), condition, settings["guidance_scale"]
        )
        if guide is not None:
            denoise = guide(denoise, condition)
        clips = sample(
            self.process,
            denoise,
            noise,
            sampler=settings["name"],
            steps=settings["steps"],
            eta=settings["eta"],
            rng=sampler_keys,
            clip_x0=1.0,
        )
        return jnp.clip(clips, -1.0, 1.0)


def build_base(config: ConfigDict) -> Generator:
    """Returns the base generator of a config."""
    d = config.data
    return _build(
        config, config.model, (d.frames, d.height, d.width, 3), None, config.sampler.steps
    )


def build_superres(config: ConfigDict) -> Generator:
    """Returns the super-resolution generator of a config's cascade."""
    d = config.data
    clip_shape = (d.frames, d.high_height, d.high_width, 3)
    steps = config.superres.sampler_steps
    return _build(config, config.superres.model, clip_shape, (d.height, d.width), steps)


def build_process(diffusion: ConfigDict, **fields: Any) -> Process:
    """Returns the noise process `diffusion.name` with the fields of the sub-section of that name.

    Args:
        diffusion: `name`, `prediction` and one sub-section a process.
        **fields: of the process, over those of the section.

    Raises:
        ValueError: an unknown process or field, or a value that it refuses.
    """
    name = diffusion.name
    if name not in PROCESSES:
        raise ValueError(f"config.diffusion.name={name!r}: known are {', '.join(PROCESSES)}")
    given = {**diffusion[name].to_dict(), "prediction": diffusion.prediction, **fields}
    unknown = set(given) - {field.name for field in dataclasses.fields(PROCESSES[name])}
    if unknown:
        raise ValueError(f"config.diffusion.{name}.{min(unknown)}: {name} has no such field")
    return PROCESSES[name](**given)


def _build(config, model, clip_shape, low_res_shape, sampler_steps) -> Generator:
    fields = ConfigDict(
        model.to_dict()
    )  # unlocked: the compute dtype is set for all models at once
    fields[fields.name].dtype = config.compute_dtype
    return Generator(
        module=build_generator(fields, channels=3, text_dim=config.text.dim),
        process=build_process(config.diffusion),
        clip_shape=clip_shape,
        text_shape=(config.text.length, config.text.dim),
        low_res_shape=low_res_shape,
        sampler=(
            ("name", config.sampler.name),
            ("steps", sampler_steps),
            ("eta", config.sampler.eta),
            ("guidance_scale", config.sampler.guidance_scale),
        ),
    )
