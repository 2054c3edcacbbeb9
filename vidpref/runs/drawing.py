"""Drawing clips: what they are drawn from, texts as it sees them, and chunks of clips."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.scenes import Data, Scene
from vidpref.datasets.text import TextCache
from vidpref.generation.cascade import Cascade, DrawsClips, Row, Sampler
from vidpref.generation.first_frames import open_first_frames
from vidpref.generation.generator import Generator
from vidpref.generation.scene_conditions import SceneConditions
from vidpref.generation.text_encoders import build_text_encoder
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.condition import Condition
from vidpref.models.registry import backbone
from vidpref.training.metrics import Progress
from vidpref.training.sharding import filled_up, make_mesh
from vidpref.typing import Array, PyTree, UInt8

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


def drawn_at_once(source: Drawable, count: int) -> int:
    """Returns the clips of a batch where there are `count` to draw, filled up for the devices."""
    return filled_up(min(source.config.sampler.batch_size, count), make_mesh(MESH))


def embed(
    source: Drawable, prompts: Sequence[str], folder: str | os.PathLike, *, shared: bool
) -> TextCache:
    """Returns the embeddings of prompts, and of no prompt; the encoder is off the devices then.

    Args:
        source: what will be drawn from.
        prompts: the texts.
        folder, shared: as of `TextCache.build`.

    Raises:
        ValueError: see `TextCache.build`.
    """
    null = _null_prompt(source)
    # no name for the encoder: its weights leave the devices before others take their place
    encoder = build_text_encoder(source.config.text, make_mesh(MESH))
    texts = [*prompts, *([] if null is None else [null])]
    return TextCache.build(folder, encoder, texts, shared=shared)


def draw_chunks(
    source: Drawable,
    chunks: Sequence[Sequence[Row]],
    texts: TextCache,
    *,
    seed: int,
    batch_size: int,
    given: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Iterator[tuple[Row, UInt8[np.ndarray, "t h w 3"], np.ndarray | None]]:
    """Yields (row, clip, latent) of the rows of chunks, in each process those that it owns.

    Args:
        source: what to draw from.
        chunks: scenes and numbers of clips, at most `batch_size` each.
        texts: embeddings of their prompts, from `embed`.
        seed: seed of the noise.
        batch_size: clips at once, see `drawn_at_once`.
        given: see `Sampler`, a row a clip of all chunks.

    Raises:
        ValueError: weights that are not those of the network, or clips that are not finite.
    """
    if not chunks:
        return
    mesh, guided = make_mesh(MESH), source.config.sampler.guidance_scale != 1.0
    borrowed = chunks[0][0][0].record is not None
    seen = SceneConditions(
        texts, _null_prompt(source) if guided else None, source.data.clips if borrowed else None
    )
    steps = sum(network.steps for network in source.cascade.networks)
    with Progress("steps", total=steps * len(chunks)) as progress:
        sampler = Sampler(
            [_watched(network, progress) for network in source.cascade.networks],
            seen,
            batch_size=batch_size,
            mesh=mesh,
        )
        with source.cascade.loaded() as params:
            images = {}
            if source.generator.image == "image_latent" and not borrowed:
                scenes = list({scene.id: scene for chunk in chunks for scene, _ in chunk}.values())
                found = _encoded(source, scenes, params[1], mesh)
                images = {scene.id: image for scene, image in zip(scenes, found, strict=True)}
            start = 0
            for chunk in chunks:
                end = start + len(chunk)
                part = {name: values[start:end] for name, values in given.items()}
                if images:
                    part |= _rows([images[scene.id] for scene, _ in chunk])
                    chunk = [
                        (dataclasses.replace(scene, first_frame=None), n) for scene, n in chunk
                    ]
                start = end
                rows, drawn = sampler(params, chunk, seed, part)
                *_, clips = drawn.values()
                for i, row in enumerate(rows):
                    yield row, clips[i], drawn["latent"][i] if "latent" in drawn else None


def _null_prompt(source: Drawable) -> str | None:
    """The text of no prompt, or of what not to show; None where a generator needs none."""
    config = source.config
    return backbone(config.model.name).null_prompt(config.sampler.negative_prompt)


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
