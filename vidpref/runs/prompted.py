"""Clips for prompts of one's own, from a diffusers pipeline or from the policy of a run."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.scenes import Data, Scene
from vidpref.datasets.text import TextCache
from vidpref.generation.adopt import load_config
from vidpref.generation.cascade import Cascade, CascadeNetwork, DrawsClips, Sampler, chunked
from vidpref.generation.first_frames import open_first_frames
from vidpref.generation.generator import Generator, build_base
from vidpref.generation.scene_conditions import SceneConditions
from vidpref.generation.text_encoders import build_text_encoder
from vidpref.interop.lora.reading import read_lora
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.condition import Condition
from vidpref.models.lora import merge_into
from vidpref.models.registry import backbone
from vidpref.runs.inputs import decoder_of, target
from vidpref.runs.policies import Policy
from vidpref.runs.recipe import Recipe
from vidpref.storage.copies import here
from vidpref.training.metrics import Progress
from vidpref.training.sharding import filled_up, make_mesh
from vidpref.typing import Array, Float, PyTree, UInt8

MESH = {"data": 1, "fsdp": -1, "context": 1, "tensor": 1}  # any number of devices


@dataclasses.dataclass(frozen=True)
class Drawable:
    """What clips are drawn from.

    Attributes:
        config: its sections `model`, `data`, `text` and `sampler` count.
        generator: the network with its process and sampler, as it is without a reward's guidance.
        cascade: the networks that clips go through, loaded when they are drawn.
        data: data set of a run whose generator sees first frames; None otherwise.
    """

    config: ConfigDict
    generator: Generator
    cascade: Cascade
    data: Data | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the clips in pixels, after super-resolution where there is one."""
        data = self.config.data
        if self.config.superres.enabled:
            return data.high_height, data.high_width
        return data.height, data.width


def open_pipeline(
    path: str, overrides: Sequence[str], lora: str = "", lora_scale: float = 1.0
) -> Drawable:
    """Opens the folder of a diffusers pipeline, with an adapter merged into it if `lora` is given.

    Args:
        path: folder of the pipeline.
        overrides: changed fields of the config, such as "data.frames=49". On a CPU the computation
            is in float32 without them.
        lora: folder or file of a LoRA, see `read_lora`.
        lora_scale: by what it is multiplied.

    Raises:
        ValueError: a folder that holds no such pipeline, or an adapter of another network.
    """
    folder = PipelineFolder(path)
    folder.check_weights()
    spec = folder.family.pipelines[folder.pipeline]
    config = load_config(spec, [f"model.init={path}", *_dtypes(), *overrides])
    mesh = make_mesh(MESH)
    generator = build_base(config)
    shapes = target(generator.init, mesh)
    adapted = None
    if lora:
        adapted = read_lora(here(lora), folder.family, generator.module, shapes, lora_scale)

    def load() -> PyTree:
        params = folder.load_transformer(generator.module, shapes)
        return params if adapted is None else merge_into(params, *adapted)

    decoder = decoder_of(folder, config.model, mesh)
    return Drawable(config, generator, Cascade(CascadeNetwork(generator, load), decoder))


def _dtypes() -> list[str]:
    """The types in which a pipeline computes where nobody says otherwise.

    On a CPU bfloat16 is slower, and its clips are other than those of diffusers by 7e-3.
    """
    names = ("compute_dtype", "text.dtype") if jax.default_backend() == "cpu" else ()
    return [f"{name}=float32" for name in names]


def open_policy(recipe: Recipe, policy: Policy) -> Drawable:
    """Opens a policy of a finished run: also a cascade, or one that a reward guides."""
    generator = recipe.generator
    data = recipe.inputs.data if generator.image else None
    return Drawable(recipe.config, generator, recipe.cascade(policy), data)


def draw(
    source: Drawable,
    scenes: Sequence[Scene],
    *,
    seed: int,
    per_scene: int = 1,
    noise: Float[np.ndarray, "b t2 h2 w2 c"] | None = None,
    step_noise: Float[np.ndarray, "b steps t2 h2 w2 c"] | None = None,
) -> Iterator[tuple[str, UInt8[np.ndarray, "t h w 3"], np.ndarray | None]]:
    """Yields (prompt, clip, latent) of `per_scene` clips a scene, with a progress bar.

    Args:
        source: what to draw from.
        scenes: prompts with first frames, from `prompt_scenes`.
        seed: seed of the noise.
        per_scene: clips of each scene.
        noise: where the clips start, one row a clip; instead of noise from `seed`.
        step_noise: what the sampler's steps add, likewise.

    Raises:
        ValueError: weights that are not those of the network, a first frame that is missing or not
            taken, noise of another shape, or noise for the steps of a sampler that adds none.
    """
    config, mesh = source.config, make_mesh(MESH)
    given = {"noise": noise, "step_noise": step_noise}
    given = {name: values for name, values in given.items() if values is not None}
    count = len(scenes) * per_scene
    _check_scenes(source.generator, scenes)
    _check_noise(source.generator, count, given)
    batch_size = filled_up(min(config.sampler.batch_size, count), mesh)
    null = backbone(config.model.name).null_prompt(config.sampler.negative_prompt)
    prompts = [scene.text for scene in scenes] + ([] if null is None else [null])
    steps = sum(network.steps for network in source.cascade.networks)
    total = steps * len(chunked(scenes, per_scene, batch_size))
    with tempfile.TemporaryDirectory() as folder, Progress("steps", total=total) as progress:
        # no name for the encoder: its weights leave the devices before others take their place
        encoder = build_text_encoder(config.text, mesh)
        texts = TextCache.build(folder, encoder, prompts, shared=False)
        del encoder
        guided = config.sampler.guidance_scale != 1.0
        borrowed = scenes[0].record is not None
        sampler = Sampler(
            [_watched(network, progress) for network in source.cascade.networks],
            SceneConditions(
                texts, null if guided else None, source.data.clips if borrowed else None
            ),
            batch_size=batch_size,
            mesh=mesh,
        )
        with source.cascade.loaded() as params:
            images = []
            if source.generator.image == "image_latent" and not borrowed:
                images = _encoded(source, scenes, params[1], mesh)
                scenes = [dataclasses.replace(scene, first_frame=None) for scene in scenes]
            start = 0
            for chunk in chunked(scenes, per_scene, batch_size):
                end = start + len(chunk)
                part = {name: values[start:end] for name, values in given.items()}
                if images:
                    part |= _rows([images[i // per_scene] for i in range(start, end)])
                start = end
                rows, drawn = sampler(params, chunk, seed, part)
                *_, clips = drawn.values()
                for i, (scene, _) in enumerate(rows):
                    yield scene.text, clips[i], drawn["latent"][i] if "latent" in drawn else None


def _check_scenes(generator: Generator, scenes: Sequence[Scene]) -> None:
    for scene in scenes:
        starts = scene.first_frame is not None or scene.record is not None
        if starts and not generator.image:
            raise ValueError("this generator takes no image: it draws from the prompt alone")
        if generator.image and not starts:
            raise ValueError("this generator takes an image, the first frame of its clips")


def _check_noise(generator: Generator, count: int, given: Mapping[str, np.ndarray]) -> None:
    settings, clip = generator.sampler, generator.clip_shape
    if "step_noise" in given and not settings.adds_noise:
        raise ValueError(f"step_noise: the sampler {settings.name} adds no noise at its steps")
    for name, wanted, axes in (
        ("noise", (count, *clip), "clips, t, h, w, channels"),
        ("step_noise", (count, settings.steps, *clip), "clips, steps, t, h, w, channels"),
    ):
        if name in given and given[name].shape != wanted:
            raise ValueError(f"the {name} is {given[name].shape}, wanted {wanted}: ({axes})")


def _encoded(
    source: Drawable, scenes: Sequence[Scene], decoder: PyTree, mesh: Mesh
) -> list[dict[str, np.ndarray]]:
    """What the generator sees of every scene's first frame; equal frames are encoded once."""
    model, steps = source.config.model, source.generator.clip_shape[0]
    autoencoder = source.cascade.second.network, decoder
    encoder, params = open_first_frames(model, PipelineFolder(model.init), autoencoder, mesh)
    encode = jax.jit(encoder.encode, static_argnames="steps")
    encoded = {}
    for frame in (scene.first_frame for scene in scenes):
        if id(frame) not in encoded:
            found = encode(params, encoder.prepare(frame[None]), steps=steps)
            encoded[id(frame)] = {name: np.asarray(values[0]) for name, values in found.items()}
    return [encoded[id(scene.first_frame)] for scene in scenes]


def _rows(images: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([image[name] for image in images]) for name in images[0]}


@dataclasses.dataclass(frozen=True)
class _Watched:
    """A generator that counts its sampler's steps."""

    network: DrawsClips
    progress: Progress

    @property
    def output(self) -> str:
        return self.network.output

    @property
    def steps(self) -> int:
        return self.network.steps

    def sample(self, params: PyTree, keys: Array, batch: dict) -> Array:
        def guide(denoise: Callable, condition: Condition) -> Callable:
            def counted(x: Array, tau: Array) -> Array:
                jax.debug.callback(lambda: self.progress.update())
                return denoise(x, tau)

            return counted

        return self.network.sample(params, keys, batch, guide)


def _watched(network: DrawsClips, progress: Progress) -> DrawsClips:
    return _Watched(network, progress) if network.steps else network
