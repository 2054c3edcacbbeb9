"""Clips for prompts of one's own, from a diffusers pipeline or from the policy of a run."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.scenes import Scene
from vidpref.datasets.text import TextCache
from vidpref.diffusion.samplers import adds_noise
from vidpref.generation.adapters import merge_into
from vidpref.generation.adopt import load_config
from vidpref.generation.autoencoder import Decoder, build_autoencoder
from vidpref.generation.cascade import Sampler, chunked
from vidpref.generation.first_frames import open_first_frames
from vidpref.generation.generator import Generator, build_base
from vidpref.generation.text_encoders import build_text_encoder
from vidpref.interop.peft import read_lora
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.condition import Condition
from vidpref.models.registry import PORTED
from vidpref.runs.inputs import target
from vidpref.runs.recipe import Policy, Recipe
from vidpref.training.metrics import Progress
from vidpref.training.sharding import make_mesh
from vidpref.typing import Array, Float, PyTree, UInt8

MESH = {"data": 1, "fsdp": -1, "context": 1, "tensor": 1}  # any number of devices
# Whose sizes, steps and guidance a pipeline's clips have where nothing else is asked for.
CONFIGS = {
    "WanPipeline": "flow_dpo:wan2_1_1_3b",
    "WanImageToVideoPipeline": "flow_dpo:wan2_1_i2v_14b",
    "CogVideoXPipeline": "ipo_kto:cogvideox_2b",
    "CogVideoXImageToVideoPipeline": "realdpo:cogvideox_5b_i2v",
}


@dataclasses.dataclass(frozen=True)
class Drawable:
    """What clips are drawn from.

    Attributes:
        config: its sections `data`, `text`, `sampler` and `mesh` count.
        generator: the network with its process and sampler.
        params: of the generator.
        decoder: from latents to clips, with its parameters; None where clips are pixels.
    """

    config: ConfigDict
    generator: Generator
    params: PyTree
    decoder: tuple[Decoder, PyTree] | None


def open_pipeline(path: str, overrides: Sequence[str], lora: str = "") -> Drawable:
    """Opens the folder of a diffusers pipeline, with an adapter merged into it if `lora` is given.

    Args:
        path: of the folder.
        overrides: of the config, such as "data.frames=49".
        lora: folder or file of a LoRA in the format of diffusers.

    Raises:
        ValueError: weights that are not those of such a pipeline or adapter.
    """
    folder = PipelineFolder(path)
    config = load_config(CONFIGS[folder.pipeline], [f"model.init={path}", *overrides])
    mesh = make_mesh(MESH)
    generator = build_base(config)
    shapes = target(generator.init, mesh)
    params = folder.load_transformer(generator.module, shapes)
    if lora:
        adapters, spec = read_lora(Path(lora), folder.family, generator.module, shapes)
        params = merge_into(params, adapters, spec)
    decoder = Decoder(build_autoencoder(config.model))
    weights = folder.load_autoencoder(decoder.autoencoder, target(decoder.init, mesh))
    return Drawable(config, generator, params, (decoder, weights))


def open_policy(recipe: Recipe, policy: Policy) -> Drawable:
    """Opens a policy of a finished run.

    Raises:
        ValueError: a cascade, or a policy that a reward guides: they are sampled in their run only.
    """
    if recipe.config.superres.enabled or policy.guidance is not None:
        raise ValueError("clips of a cascade or of a guided policy are drawn by its own run only")
    return Drawable(recipe.config, recipe.generator, recipe.load(policy), recipe.second)


def draw(
    source: Drawable,
    prompts: Sequence[str],
    *,
    seed: int,
    per_prompt: int = 1,
    image: UInt8[np.ndarray, "h w 3"] | None = None,
    noise: Float[np.ndarray, "b t2 h2 w2 c"] | None = None,
    step_noise: Float[np.ndarray, "b steps t2 h2 w2 c"] | None = None,
) -> Iterator[tuple[str, UInt8[np.ndarray, "t h w 3"], np.ndarray | None]]:
    """Yields (prompt, clip, latent) of `per_prompt` clips a prompt, with a progress bar.

    Args:
        source: what to draw from.
        prompts: the texts.
        seed: of the noise.
        per_prompt: clips of each prompt.
        image: first frame of all clips, where the generator takes one.
        noise: where the clips start, one row a clip; instead of `seed`.
        step_noise: what the sampler's steps add, likewise.

    Raises:
        ValueError: an image that is missing or not taken, noise of another shape, or noise for the
            steps of a sampler that adds none.
    """
    config, generator = source.config, source.generator
    mesh = make_mesh(MESH)
    given = {"noise": noise, "step_noise": step_noise}
    given = {name: values for name, values in given.items() if values is not None}
    _check(generator, len(prompts) * per_prompt, image, given)
    shards = jax.device_count()
    batch_size = -(-min(config.sampler.batch_size, len(prompts) * per_prompt) // shards) * shards
    ported = config.model.name in PORTED
    null = config.sampler.negative_prompt if ported else None
    frame = image if generator.image == "first_frame" else None
    scenes = [Scene(f"prompt-{i}", text, "", "test", frame) for i, text in enumerate(prompts)]
    chunks = chunked(scenes, per_prompt, batch_size)
    total = dict(generator.sampler)["steps"] * len(chunks)
    with tempfile.TemporaryDirectory() as folder, Progress("steps", total=total) as progress:
        # no name for the encoder: its weights leave the devices before the first step
        texts = TextCache.build(
            folder,
            build_text_encoder(config.text, mesh),
            [*prompts, *([null] if ported else [])],
        )
        cascade = [_Watched(generator, progress), *([source.decoder[0]] if ported else [])]
        guided = config.sampler.guidance_scale != 1.0
        sampler = Sampler(
            cascade,
            texts,
            batch_size=batch_size,
            mesh=mesh,
            null_prompt=null if guided else None,
        )
        params = [source.params, *([source.decoder[1]] if ported else [])]
        more: Mapping[str, np.ndarray] = {}
        if generator.image == "image_latent":
            more = _first_frames(source, image, mesh)
        start = 0
        for chunk in chunks:
            part = {name: values[start : start + len(chunk)] for name, values in given.items()}
            start += len(chunk)
            rows, drawn = sampler(params, chunk, seed, {**more, **part})
            for i, (scene, _) in enumerate(rows):
                latent = drawn["latent"][i] if "latent" in drawn else None
                yield scene.text, drawn["video"][i], latent


def _check(generator: Generator, count: int, image, given: Mapping[str, np.ndarray]) -> None:
    if (image is None) != (not generator.image):
        wants = "an image, its first frame" if generator.image else "no image"
        raise ValueError(f"this generator takes {wants}")
    settings = dict(generator.sampler)
    if "step_noise" in given and not adds_noise(settings["name"], settings["eta"]):
        raise ValueError(f"step_noise: the sampler {settings['name']} adds no noise at its steps")
    clip = generator.clip_shape
    for name, wanted, axes in (
        ("noise", (count, *clip), "clips, t, h, w, channels"),
        ("step_noise", (count, settings["steps"], *clip), "clips, steps, t, h, w, channels"),
    ):
        if name in given and given[name].shape != wanted:
            raise ValueError(f"the {name} is {given[name].shape}, wanted {wanted}: ({axes})")


def _first_frames(source: Drawable, image: np.ndarray, mesh: Mesh) -> dict[str, np.ndarray]:
    """What the generator sees of the image, for a batch of one."""
    model, steps = source.config.model, source.generator.clip_shape[0]
    encoder, params = open_first_frames(model, PipelineFolder(model.init), source.decoder, mesh)
    encode = jax.jit(encoder.encode, static_argnames="steps")
    found = encode(params, encoder.prepare(image[None]), steps=steps)
    return {name: np.asarray(values) for name, values in found.items()}


@dataclasses.dataclass(frozen=True)
class _Watched:
    """A generator that counts its sampler's steps."""

    generator: Generator
    progress: Progress

    @property
    def output(self) -> str:
        return self.generator.output

    def sample(self, params: PyTree, keys: Array, batch: dict) -> Array:
        def guide(denoise: Callable, condition: Condition) -> Callable:
            def counted(x: Array, tau: Array) -> Array:
                jax.debug.callback(lambda: self.progress.update())
                return denoise(x, tau)

            return counted

        return self.generator.sample(params, keys, batch, guide)
