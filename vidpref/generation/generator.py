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
from vidpref.diffusion.guidance import classifier_free, cogvideox_dynamic
from vidpref.diffusion.process import Process
from vidpref.diffusion.samplers import Chain, Denoise, adds_noise, sample
from vidpref.generation.autoencoder import build_autoencoder, latent_shape
from vidpref.generation.first_frames import build_image_encoder
from vidpref.models.condition import Condition
from vidpref.models.frozen import layers_are_watched
from vidpref.models.lora import apply_network
from vidpref.models.registry import backbone, build_generator
from vidpref.pixels import clip_to_unit, to_unit
from vidpref.typing import Array, Float, PyTree

PROCESSES = {"ddpm": DDPM, "flow": RectifiedFlow}


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
    """How clips are drawn.

    Attributes:
        name: name in `SAMPLERS`.
        steps: calls of the network.
        eta: share of the noise that "ddim" adds, see `Chain`.
        guidance_scale: strength of classifier-free guidance; 1 leaves it out.
        dynamic_guidance: whether that is only its largest value, as with CogVideoX's
            `use_dynamic_cfg`.
    """

    name: str
    steps: int
    eta: float = 0.0
    guidance_scale: float = 1.0
    dynamic_guidance: bool = False

    @property
    def adds_noise(self) -> bool:
        """Whether the sampler adds noise at its steps."""
        return adds_noise(self.name, self.eta)

    @property
    def scale(self) -> float | Callable[[Array], Array]:
        """Returns the scale of guidance as `classifier_free` takes it."""
        if self.dynamic_guidance and self.guidance_scale != 1.0:  # at 1.0 nothing is guided
            return cogvideox_dynamic(self.guidance_scale, self.steps)
        return self.guidance_scale


@dataclasses.dataclass(frozen=True)
class Generator:
    """A text-conditioned video generator of clips `[b, *clip_shape]`, in pixels or in latents.

    Attributes:
        module: the Linen network, `(x_tau, tau, condition) -> output`.
        process: the noise process that gives the output its meaning.
        clip_shape: (t, h, w, c) of one clip.
        text_shape: (l, d) of the text embedding.
        sampler: how clips are drawn.
        low_res_shape: low-resolution (h, w), for super-resolution.
        output: what the clips are called in records: "video", "video_high" or "latent".
        image: what it sees of a first frame: "first_frame", "image_latent" or "".
        image_states_shape: (m, e) of the image encoder's states that it attends to, or None.
    """

    module: nn.Module
    process: Process
    clip_shape: tuple[int, int, int, int]
    text_shape: tuple[int, int]
    sampler: SamplerSettings
    low_res_shape: tuple[int, int] | None = None
    output: str = "video"
    image: str = "first_frame"
    image_states_shape: tuple[int, int] | None = None

    @property
    def steps(self) -> int:
        """Calls of the network for one clip."""
        return self.sampler.steps

    @property
    def latent(self) -> bool:
        """Whether clips are latents of an autoencoder; pixels lie in [-1, 1]."""
        return self.output == "latent"

    def init(self, key: Array) -> PyTree:
        """Returns fresh parameters, boxed with their logical axis names."""
        if layers_are_watched():
            return self.module.init(key, *self.example())["params"]
        return _traced_init(self.module)(key, *self.example())

    def example(self) -> tuple[Array, Array, Condition]:
        """Returns arguments of the network for one clip of zeros."""
        t, h, w, c = self.clip_shape
        l, d = self.text_shape
        low_res = None
        if self.low_res_shape:
            low_res = jnp.zeros((1, t, *self.low_res_shape, c))
        image_latent = image_states = None
        if self.image == "image_latent":
            image_latent = jnp.zeros((1, t, h, w, self.module.in_channels - c))
        if self.image_states_shape:
            image_states = jnp.zeros((1, *self.image_states_shape))
        condition = Condition(
            text=jnp.zeros((1, l, d)),
            text_mask=jnp.ones((1, l), bool),
            first_frame=jnp.zeros((1, h, w, c)) if self.image == "first_frame" else None,
            low_res=low_res,
            low_res_tau=None if low_res is None else jnp.zeros((1,)),
            image_latent=image_latent,
            image_states=image_states,
        )
        return jnp.zeros((1, t, h, w, c)), jnp.zeros((1,)), condition

    def apply(
        self, params: PyTree, x_tau: Array, tau: Array, condition: Condition
    ) -> Float[Array, "b t h w c"]:
        """Runs the network on corrupted clips; `params` may be `Adapted`."""
        return apply_network(self.module, params, x_tau, tau, condition)

    def condition(self, batch: Mapping[str, Array]) -> Condition:
        """Returns the network's condition: text, its mask, and what else of a batch it takes.

        An `image_latent` [b, t, h, w, c] of fewer steps than the clip gets zeros for the others:
        CogVideoX's is that of the first frame alone.
        """

        def pixels(name: str) -> Array | None:
            return None if name not in batch else to_unit(batch[name])

        return Condition(
            text=batch["text"],
            text_mask=batch["text_mask"],
            first_frame=pixels("first_frame") if self.image == "first_frame" else None,
            low_res=pixels("low_res"),
            image_latent=self._image_latent(batch) if self.image == "image_latent" else None,
            image_states=batch["image_states"] if self.image_states_shape else None,
            null_text=batch.get("null_text"),
            null_text_mask=batch.get("null_text_mask"),
        )

    def _image_latent(self, batch: Mapping[str, Array]) -> Array:
        first = batch["image_latent"].astype(jnp.float32)
        rest = self.clip_shape[0] - first.shape[1]
        return jnp.pad(first, ((0, 0), (0, rest), (0, 0), (0, 0), (0, 0)))

    def sample(
        self,
        params: PyTree,
        keys: Array,
        batch: dict,
        guide: Callable[[Denoise, Condition], Denoise] | None = None,
    ) -> Float[Array, "b t h w c"]:
        """Draws one clip a row; row i depends only on `keys[i]` and row i of `batch`.

        Args:
            params: parameters of the network.
            keys: one a row.
            batch: conditions; and, instead of noise drawn from `keys`, `noise` [b, t, h, w, c] to
                start from and `step_noise` [b, steps, t, h, w, c] that the steps add.
            guide: `(denoise, condition) -> denoise`, guidance on top of the classifier-free one.
        """
        clips = sample(self.sampler.name, self.chain(params, keys, batch, guide))
        return clips if self.latent else clip_to_unit(clips)

    def chain(
        self,
        params: PyTree,
        keys: Array,
        batch: dict,
        guide: Callable[[Denoise, Condition], Denoise] | None = None,
    ) -> Chain:
        """Returns what a sampler draws the clips of a batch from; arguments as for `sample`."""
        condition = self.condition(batch)
        if condition.low_res is not None:
            condition = condition.replace(low_res_tau=jnp.zeros(keys.shape))
        noise_keys, sampler_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        noise = batch.get("noise")
        if noise is None:
            noise = jax.vmap(lambda key: jax.random.normal(key, self.clip_shape))(noise_keys)
        network = functools.partial(self.apply, params)
        denoise = classifier_free(network, condition, self.sampler.scale)
        if guide is not None:
            denoise = guide(denoise, condition)
        return self._chain(denoise, noise, sampler_keys, batch.get("step_noise"))

    def check_sampler(self) -> None:
        """Refuses a sampler that cannot draw from this noise process; nothing is computed.

        Raises:
            ValueError: what does not suit what.
        """

        def draw(noise: Array, keys: Array) -> Array:
            chain = self._chain(lambda x_tau, tau: x_tau, noise, keys)
            return sample(self.sampler.name, chain)

        try:
            noise = jax.ShapeDtypeStruct((1, *self.clip_shape), jnp.float32)
            jax.eval_shape(draw, noise, jax.random.split(jax.random.key(0), 1))
        except ValueError as error:
            raise ValueError(f"config.sampler: {error}") from error

    def _chain(
        self, denoise: Denoise, noise: Array, keys: Array, step_noise: Array | None = None
    ) -> Chain:
        return Chain(
            self.process,
            denoise,
            noise,
            self.sampler.steps,
            eta=self.sampler.eta,
            keys=keys,
            step_noise=step_noise,
            clip_x0=None if self.latent else 1.0,
        )


@functools.lru_cache(maxsize=32)
def _traced_init(module: nn.Module) -> Callable[..., PyTree]:
    """Returns `init` of a network, traced once for all that asks for its shapes, which many do."""
    return jax.jit(lambda key, *example: module.init(key, *example)["params"])


def build_base(config: ConfigDict) -> Generator:
    """Returns the base generator of a config, of clips in pixels or of an autoencoder's latents."""
    d, model = config.data, config.model
    if not backbone(model.name).latents:
        return _build(config, model, clip_shape=(d.frames, d.height, d.width, 3))
    vision = build_image_encoder(model)
    return _build(
        config,
        model,
        clip_shape=latent_shape(build_autoencoder(model), d.frames, d.height, d.width),
        output="latent",
        image_states_shape=vision.states_shape if vision else None,
    )


def build_superres(config: ConfigDict) -> Generator:
    """Returns the super-resolution generator of a config's cascade."""
    d = config.data
    generator = _build(
        config,
        config.superres.model,
        clip_shape=(d.frames, d.high_height, d.high_width, 3),
        low_res_shape=(d.height, d.width),
        output="video_high",
    )
    sampler = dataclasses.replace(generator.sampler, steps=config.superres.sampler_steps)
    return dataclasses.replace(generator, sampler=sampler)


def build_process(diffusion: ConfigDict, **fields: Any) -> Process:
    """Returns the noise process `diffusion.name` with the fields of the sub-section of that name.

    Args:
        diffusion: `name`, `prediction` and one sub-section a process.
        **fields: fields of the process, over those of the section.

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


def _build(config: ConfigDict, model: ConfigDict, *, clip_shape, **fields: Any) -> Generator:
    """Returns a generator; `fields` are those of it that do not follow from the config."""
    model = ConfigDict(model.to_dict())  # unlocked: the compute dtype is set for all models at once
    model[model.name].dtype = config.compute_dtype
    module = build_generator(model, channels=clip_shape[-1], text_dim=config.text.dim)
    sampler = config.sampler
    return Generator(
        module=module,
        process=build_process(config.diffusion),
        clip_shape=clip_shape,
        text_shape=(config.text.length, config.text.dim),
        sampler=SamplerSettings(
            name=sampler.name,
            steps=sampler.steps,
            eta=sampler.eta,
            guidance_scale=sampler.guidance_scale,
            dynamic_guidance=sampler.dynamic_guidance,
        ),
        image=backbone(model.name).sees(module),
        **fields,
    )
