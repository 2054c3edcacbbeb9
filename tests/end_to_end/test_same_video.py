"""Clips of diffusers' pipelines against ours: same folder, prompts, noise, steps and guidance.

`-s` prints every case's largest differences, relative to the largest element. Measured: at most
2e-6 in latents and 3e-5 in frames.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.cogvideo import pipeline_cogvideox_image2video
from diffusers.schedulers import scheduling_dpm_cogvideox

from tests.models.torch_parity import relative_error
from tests.tiny_pipelines import LATENT_CHANNELS, tiny_cogvideox, tiny_wan
from vidpref.interop.export import export_pipeline
from vidpref.interop.lora.writing import export_lora
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.lora import Adapted, LoRA
from vidpref.runs.prompt_scenes import own_scenes
from vidpref.runs.prompted import Drawable, draw, open_pipeline

# Relative to the largest element; guidance of 40 comes to 7e-6 and 3e-5.
TOLERANCES = {"latents": 5e-5, "frames": 5e-4}
PROMPTS = ["a red  circle moves", "the blue square"]
SIZE = {"num_frames": 9, "height": 32, "width": 48}
GRID = (3, 4, 6)  # of the latent: t, h, w
# of the text; diffusers takes the last 512 states for it where there are states of an image
TOKENS = {"wan": 16, "wan_i2v": 512, "cogvideox": 16, "cogvideox_i2v": 16}
# what the pipelines' arguments are called in our configs
FIELDS = {
    "num_frames": "data.frames",
    "height": "data.height",
    "width": "data.width",
    "num_inference_steps": "sampler.steps",
    "guidance_scale": "sampler.guidance_scale",
    "negative_prompt": "sampler.negative_prompt",
    "use_dynamic_cfg": "sampler.dynamic_guidance",
}
# the axes of [b, t, h, w, c] in the latents of a pipeline
AXES = {
    "wan": (0, 4, 1, 2, 3),
    "wan_i2v": (0, 4, 1, 2, 3),
    "cogvideox": (0, 1, 4, 2, 3),
    "cogvideox_i2v": (0, 1, 4, 2, 3),
}
MAKERS = {
    "wan": tiny_wan,
    "wan_i2v": functools.partial(tiny_wan, image_to_video=True),
    "cogvideox": tiny_cogvideox,
    "cogvideox_i2v": functools.partial(tiny_cogvideox, image_to_video=True),
}

_rng = np.random.default_rng(0)
NOISE = _rng.normal(size=(len(PROMPTS), *GRID, LATENT_CHANNELS)).astype(np.float32)
ADDED = _rng.normal(size=(8, *GRID, LATENT_CHANNELS)).astype(np.float32)  # after each step
IMAGE = _rng.integers(256, size=(SIZE["height"], SIZE["width"], 3), dtype=np.uint8)

COGVIDEOX = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
LINSPACE = {**COGVIDEOX, "timestep_spacing": "linspace", "snr_shift_scale": 1.0}
SCHEDULERS = {
    "unipc": UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "euler": FlowMatchEulerDiscreteScheduler(shift=5.0),
    "ddim": CogVideoXDDIMScheduler(**COGVIDEOX),
    "dpm": CogVideoXDPMScheduler(**COGVIDEOX),
    "ddim linspace": CogVideoXDDIMScheduler(**LINSPACE),
    "dpm linspace": CogVideoXDPMScheduler(**LINSPACE),
}
DYNAMIC = {"guidance_scale": 6.0, "use_dynamic_cfg": True}
NEGATIVE = {"negative_prompt": "the blue cat"}
# pipeline, scheduler, steps and further arguments of the call; 3 does not divide 1000
CASES = [
    ("wan", "unipc", 4, {"guidance_scale": 5.0, **NEGATIVE}),
    ("wan", "euler", 3, {"guidance_scale": 1.0}),
    ("wan_i2v", "unipc", 3, {"guidance_scale": 40.0}),  # text is but few of 512 states
    ("cogvideox", "dpm", 4, {"guidance_scale": 6.0}),
    ("cogvideox", "ddim linspace", 3, DYNAMIC),
    ("cogvideox_i2v", "dpm", 3, DYNAMIC),
]
MORE_CASES = [
    ("wan", "unipc", 8, {"guidance_scale": 1.0}),
    ("wan", "euler", 8, {"guidance_scale": 5.0}),
    ("wan_i2v", "euler", 4, {"guidance_scale": 1.0}),
    ("cogvideox", "ddim", 5, {"guidance_scale": 6.0, **NEGATIVE}),
    ("cogvideox", "ddim", 7, {"guidance_scale": 1.0, "use_dynamic_cfg": True}),
    ("cogvideox", "dpm", 7, DYNAMIC),
    ("cogvideox", "dpm linspace", 7, {**DYNAMIC, **NEGATIVE}),
    ("cogvideox_i2v", "ddim", 3, {"guidance_scale": 1.0}),
]


@dataclasses.dataclass
class Clips:
    """Latents [b, t, h, w, c] and frames in [-1, 1]."""

    latents: np.ndarray
    frames: np.ndarray


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: tmp_path_factory.mktemp(kind) for kind in MAKERS}


@pytest.fixture(scope="module")
def pipes(folders):
    return {kind: make(folders[kind]) for kind, make in MAKERS.items()}


def theirs(kind: str, pipe: DiffusionPipeline, call: Mapping) -> Clips:
    states = []

    def keep(pipe, step, timestep, tensors):
        states.append(tensors["latents"])
        return {}

    def added(*args, **kwargs):
        return torch.from_numpy(ADDED[None, len(states)].transpose(AXES[kind]))

    def mean(encoded, generator=None):  # the pipeline draws from the posterior
        return encoded.latent_dist.mode()

    picture = PIL.Image.fromarray(IMAGE)
    images = {"wan_i2v": picture, "cogvideox_i2v": [picture] * len(PROMPTS)}
    image = {"image": images[kind]} if kind in images else {}
    with (
        mock.patch.object(scheduling_dpm_cogvideox, "randn_tensor", added),
        mock.patch.object(pipeline_cogvideox_image2video, "retrieve_latents", mean),
    ):
        frames = pipe(
            prompt=PROMPTS,
            latents=torch.from_numpy(NOISE.transpose(AXES[kind])),
            max_sequence_length=TOKENS[kind],
            callback_on_step_end=keep,
            output_type="np",
            **SIZE,
            **image,
            **call,
        ).frames
    return Clips(states[-1].numpy().transpose(np.argsort(AXES[kind])), 2.0 * frames - 1.0)


def use(scheduler: str, pipe: DiffusionPipeline, folder: Path) -> None:
    pipe.scheduler = SCHEDULERS[scheduler]
    pipe.scheduler.save_pretrained(folder / "scheduler")


def open_ours(kind: str, folder: Path, call: Mapping, lora: str = "") -> Drawable:
    exact = ["compute_dtype=float32", "text.dtype=float32", f"text.length={TOKENS[kind]}"]
    fields = [f"{FIELDS[name]}={value}" for name, value in {**SIZE, **call}.items()]
    return open_pipeline(str(folder), [*exact, *fields], lora)


def ours(kind: str, source: Drawable) -> Clips:
    given, image = {"noise": NOISE}, IMAGE if "i2v" in kind else None
    sampler = source.generator.sampler
    if sampler.adds_noise:
        given["step_noise"] = np.stack([ADDED[: sampler.steps]] * len(PROMPTS))
    drawn = list(draw(source, own_scenes(PROMPTS, image), seed=0, **given))
    assert [prompt for prompt, _, _ in drawn] == PROMPTS
    latents = np.stack([latent for _, _, latent in drawn])
    decoder = source.cascade.second
    frames = np.asarray(_decode(decoder.network.autoencoder, decoder.load(), latents))
    # the clips are these frames in 256 levels
    levels = np.stack([clip for _, clip, _ in drawn])
    assert levels.dtype == np.uint8
    assert np.abs(levels - 127.5 * (frames + 1.0)).max() < 0.501
    return Clips(latents, frames)


@functools.partial(jax.jit, static_argnums=0)
def _decode(autoencoder, params, latents):
    return jnp.clip(autoencoder.apply({"params": params}, latents, method="decode"), -1.0, 1.0)


def assert_same(name: str, mine: Clips, original: Clips) -> None:
    errors = {
        field: relative_error(getattr(mine, field), getattr(original, field))
        for field in TOLERANCES
    }
    print(f"\n{name}: " + ", ".join(f"{field} {error:.1e}" for field, error in errors.items()))
    assert all(errors[field] < bound for field, bound in TOLERANCES.items())
    assert np.mean(np.abs(original.frames) < 1.0) > 0.5  # not just black and white


@pytest.mark.parametrize(
    ("kind", "scheduler", "steps", "call"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_CASES)],
)
def test_same_video(folders, pipes, kind, scheduler, steps, call):
    pipe, folder = pipes[kind], folders[kind]
    call = {"num_inference_steps": steps, **call}
    use(scheduler, pipe, folder)
    original = theirs(kind, pipe, call)
    name = " ".join([kind, scheduler, *(f"{field}={value}" for field, value in call.items())])
    assert_same(name, ours(kind, open_ours(kind, folder, call)), original)
    if call["guidance_scale"] != 1.0:
        unguided = theirs(kind, pipe, {**call, "guidance_scale": 1.0})
        assert relative_error(unguided.latents, original.latents) > 0.03


def random_like(tree, size: float):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: size * rng.normal(size=x.shape).astype(np.float32), tree)


def test_same_video_of_exported_weights(folders, pipes, tmp_path):
    """What a full fine-tuning leaves, drawn here from memory and there from the export."""
    pipe, folder = pipes["cogvideox"], folders["cogvideox"]
    call = {"num_inference_steps": 3, "guidance_scale": 6.0}
    use("ddim", pipe, folder)
    source = open_ours("cogvideox", folder, call)
    params = source.cascade.first.load()
    changed = jax.tree.map(jnp.add, params, random_like(params, 0.1))
    source = dataclasses.replace(source, cascade=source.cascade.with_params(changed))
    export_pipeline(tmp_path / "out", PipelineFolder(folder), source.generator.module, changed)
    original = theirs("cogvideox", type(pipe).from_pretrained(tmp_path / "out"), call)
    assert_same("exported weights", ours("cogvideox", source), original)
    assert relative_error(theirs("cogvideox", pipe, call).latents, original.latents) > 0.05


@pytest.mark.parametrize("merged", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_same_video_of_exported_lora(folders, pipes, tmp_path, merged):
    """Drawn here with the adapters of a training, or with their file merged into the weights."""
    pipe, folder = pipes["wan"], folders["wan"]
    call = {"num_inference_steps": 3, "guidance_scale": 5.0}
    use("unipc", pipe, folder)
    source = open_ours("wan", folder, call)
    spec = LoRA(2, 8.0, tuple(source.config.align.lora.targets))
    base = jax.eval_shape(source.generator.init, jax.random.key(0))
    fresh = jax.eval_shape(functools.partial(spec.init, base=base), jax.random.key(0))
    adapters = random_like(nn.unbox(fresh), 0.15)
    out = tmp_path / "lora"
    export_lora(out, PipelineFolder(folder).family, source.generator.module, adapters, spec)
    if merged:
        source = open_ours("wan", folder, call, str(out))
    else:
        policy = Adapted(source.cascade.first.load(), adapters, spec)
        source = dataclasses.replace(source, cascade=source.cascade.with_params(policy))
    adapted = type(pipe).from_pretrained(folder)
    adapted.load_lora_weights(out)
    original = theirs("wan", adapted, call)
    assert_same(f"exported LoRA, {merged=}", ours("wan", source), original)
    assert relative_error(theirs("wan", pipe, call).latents, original.latents) > 0.05
