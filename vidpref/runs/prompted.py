"""Clips for prompts of one's own, from a diffusers pipeline or from the policy of a run."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from vidpref.datasets.scenes import Scene
from vidpref.generation.adopt import load_config
from vidpref.generation.cascade import Cascade, CascadeNetwork, chunked
from vidpref.generation.generator import Generator, build_base
from vidpref.interop.lora.reading import read_lora
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.lora import merge_into
from vidpref.runs.drawing import MESH, Drawable, draw_chunks, drawn_at_once, embed
from vidpref.runs.inputs import decoder_of, target
from vidpref.runs.policies import Policy
from vidpref.runs.recipe import Recipe
from vidpref.storage.copies import here
from vidpref.training.sharding import make_mesh
from vidpref.typing import Float, PyTree, UInt8


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
    given = {"noise": noise, "step_noise": step_noise}
    given = {name: values for name, values in given.items() if values is not None}
    count = len(scenes) * per_scene
    check_scenes(source.generator, scenes)
    _check_noise(source.generator, count, given)
    batch_size = drawn_at_once(source, count)
    chunks = chunked(scenes, per_scene, batch_size)
    with tempfile.TemporaryDirectory() as folder:
        texts = embed(source, [scene.text for scene in scenes], folder, shared=False)
        for (scene, _), clip, latent in draw_chunks(
            source, chunks, texts, seed=seed, batch_size=batch_size, given=given
        ):
            yield scene.text, clip, latent


def check_scenes(generator: Generator, scenes: Sequence[Scene]) -> None:
    """Refuses scenes with a first frame for a generator that sees none, and the reverse."""
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
