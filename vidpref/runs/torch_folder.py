"""A policy of this project's networks as a folder that needs torch alone, with an example."""

import shlex
from pathlib import Path

import jax
import numpy as np

import vidpref
from vidpref.datasets.pictures import encode_png
from vidpref.datasets.scenes import Scene
from vidpref.datasets.video_writing import PLAYED_FPS
from vidpref.generation.generator import Generator
from vidpref.interop.torch_export import PROGRAM, ExportedNetwork, export_torch
from vidpref.runs.policies import Policy
from vidpref.runs.recipe import Recipe

_NAMES = ("generator", "superres")  # of the networks of a cascade


def export_policy_folder(recipe: Recipe, policy: Policy, out: Path, dtype: str) -> str:
    """Writes a policy's networks, one PyTorch file and an example; returns how it is called.

    The example is a prompt of the run's data, a held-out one where there is one, with its first
    frame and text states where the generator takes such.

    Args:
        recipe: recipe of the finished run.
        policy: the policy to write.
        out: the new folder.
        dtype: type of the weights.

    Raises:
        ValueError: a policy that a reward guides, or as `export_torch`.
    """
    if "guidance" in policy.stages:
        raise ValueError(
            f"{policy.name} is the pre-trained generator with a reward that guides its sampler, "
            "which the PyTorch file has not; --policy=pretrained writes the generator alone"
        )
    config, process = recipe.config, recipe.generator.process
    example = _example_scene(recipe)
    command = _command(recipe, example)
    settings = {
        "made_by": f"vidpref {vidpref.__version__}",
        "config": f"{config.name}:{config.scale}",
        "policy": policy.name,
        "stage": policy.stages["policy"].folder,
        "fps": config.data.fps or PLAYED_FPS,
        "text": {name: config.text[name] for name in ("name", "length", "dim", "truncate")},
        "sampler": {
            "name": config.sampler.name,
            "eta": {"ddim": config.sampler.eta, "ddpm": 1.0}.get(config.sampler.name, 0.0),
            "guidance_scale": config.sampler.guidance_scale,
        },
    }
    cascade = recipe.cascade(policy)
    with cascade.loaded() as params:
        networks = {
            name: _network(network, own)
            for name, network, own in zip(_NAMES, cascade.networks, params, strict=False)
        }
        export_torch(out, networks, process, settings, command=command, dtype=dtype)
    if jax.process_index() == 0:
        _write_example(recipe, example, out)
    return command


def _network(network: Generator, params) -> ExportedNetwork:
    return ExportedNetwork(network.module, params, network.clip_shape, network.steps)


def _example_scene(recipe: Recipe) -> Scene:
    data = recipe.inputs.data
    scenes = data.scenes("test") if data.has("test") else data.all_scenes
    return scenes[0]


def _command(recipe: Recipe, example: Scene) -> str:
    if recipe.config.text.name == "words":
        asked = f"--prompt={shlex.quote(example.text)}"
    else:
        asked = "--text_states=example_text.npy"
    image = "--image=example.png " if recipe.generator.image else ""
    return f"python {PROGRAM} {asked} {image}--out=clip.gif"


def _write_example(recipe: Recipe, example: Scene, out: Path) -> None:
    if recipe.config.text.name != "words":
        text, mask = recipe.inputs.texts[example.text]
        np.save(out / "example_text.npy", text[mask].astype(np.float32))
    if recipe.generator.image:
        frame = np.asarray(example.first_frame)
        (out / "example.png").write_bytes(encode_png(frame))
        np.save(out / "example.npy", frame)  # for who has no Pillow
