"""Draws clips from a diffusers pipeline, with or without a LoRA, or from the policy of a run.

    python launch/sample.py --model=Wan2.1-T2V-1.3B-Diffusers --prompt="a fox runs" --out=fox.mp4
    python launch/sample.py --model=DIR --lora=LORA_DIR --prompts_file=prompts.txt --out=clips/
    python launch/sample.py --workdir=runs/wan --prompt="a fox runs" --out=fox.mp4

--out is a video file, or a folder for several clips. Size, steps and guidance are those of the
pipeline's published settings where no flag says otherwise. To compare with another program, start
both from the same noise (--init_noise) and compare latents (--save_latents); both are channels
first, [clips, channels, frames, height, width], as diffusers has them for Wan. Where the sampler
adds noise at its steps (cogvideox_dpm), --step_noise gives that, [clips, steps, channels, ...].
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from vidpref.runs import command_line as program

_MODEL = flags.DEFINE_string("model", None, "Folder of a diffusers pipeline.")
_LORA = flags.DEFINE_string("lora", "", "Folder or file of a LoRA for --model.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run, instead of --model.")
_POLICY = flags.DEFINE_string("policy", "", "Policy of --workdir; the last one if not given.")
_PROMPT = flags.DEFINE_string("prompt", "", "What the clip shows.")
_PROMPTS_FILE = flags.DEFINE_string("prompts_file", "", "Text file with one prompt a line.")
_IMAGE = flags.DEFINE_string("image", "", "First frame, for image-to-video.")
_OUT = flags.DEFINE_string("out", "sample.mp4", "Video file, or folder for several clips.")
_PER_PROMPT = flags.DEFINE_integer("per_prompt", 1, "Clips of each prompt.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.")
_FPS = flags.DEFINE_float("fps", 0.0, "Frames a second of the video file; 0: as trained.")
_NOISE = flags.DEFINE_string("init_noise", "", ".npy file of the noise to start from.")
_STEP_NOISE = flags.DEFINE_string("step_noise", "", ".npy file of the noise that steps add.")
_LATENTS = flags.DEFINE_string("save_latents", "", ".npy file for the sampled latents.")
_SETTINGS = {  # field of the config -> flag
    "sampler.steps": flags.DEFINE_integer("steps", None, "Steps of the sampler."),
    "sampler.guidance_scale": flags.DEFINE_float("guidance_scale", None, "Of the text."),
    "sampler.negative_prompt": flags.DEFINE_string("negative_prompt", None, "What not to show."),
    "sampler.dynamic_guidance": flags.DEFINE_bool(
        "dynamic_guidance", None, "CogVideoX's use_dynamic_cfg."
    ),
    "sampler.name": flags.DEFINE_string("sampler", None, "E.g. euler, unipc, cogvideox_dpm."),
    "sampler.batch_size": flags.DEFINE_integer("batch_size", None, "Clips at once."),
    "data.height": flags.DEFINE_integer("height", None, "Pixels."),
    "data.width": flags.DEFINE_integer("width", None, "Pixels."),
    "data.frames": flags.DEFINE_integer("num_frames", None, "Frames of a clip."),
}
_DTYPE = flags.DEFINE_string("dtype", None, "Of network and text encoder, e.g. float32.")


def main(overrides: Sequence[str]) -> None:
    if bool(_MODEL.value) == bool(_WORKDIR.value):
        raise app.UsageError("give either --model=FOLDER or --workdir=FOLDER.")
    prompts = _prompts()
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    program.start_devices(Path(_WORKDIR.value or cache / "vidpref"))
    from vidpref.datasets.video_writing import encode_clip, encode_clip_bytes
    from vidpref.runs import prompted as drawing

    count = len(prompts) * _PER_PROMPT.value
    for path in (_path(0, count), Path(_LATENTS.value)):
        path.parent.mkdir(parents=True, exist_ok=True)
    # refuses another suffix now, and not when the clips are there
    black = np.zeros((1, 16, 16, 3), np.uint8)
    encode_clip_bytes(black, 8, container=_path(0, count).suffix.lstrip("."))
    noise = _read_noise(_NOISE, 5) if _NOISE.value else None
    step_noise = _read_noise(_STEP_NOISE, 6) if _STEP_NOISE.value else None
    source = _open(overrides)
    if _LATENTS.value and not source.generator.latent:
        raise ValueError("--save_latents: this generator makes pixels")
    image = _first_frame(source) if _IMAGE.value else None
    fps = _FPS.value or source.config.data.get("fps", 8.0)
    latents = []
    drawn = drawing.draw(
        source,
        prompts,
        seed=_SEED.value,
        per_prompt=_PER_PROMPT.value,
        image=image,
        noise=noise,
        step_noise=step_noise,
    )
    for i, (prompt, clip, latent) in enumerate(drawn):
        path = _path(i, count)
        encode_clip(path, clip, fps)
        latents.append(latent)
        print(f"{path}: {prompt}")
    if _LATENTS.value:
        np.save(_LATENTS.value, np.moveaxis(np.stack(latents), -1, 1))


def _open(overrides: Sequence[str]):
    from vidpref.runs import prompted as drawing
    from vidpref.runs import rounds

    settings = [f"{field}={f.value}" for field, f in _SETTINGS.items() if f.value is not None]
    if _DTYPE.value:
        settings += [f"compute_dtype={_DTYPE.value}", f"text.dtype={_DTYPE.value}"]
    if _MODEL.value:
        return drawing.open_pipeline(_MODEL.value, [*settings, *overrides], _LORA.value)
    if _LORA.value:
        raise app.UsageError("--lora goes with --model; a run's policy has its own adapters.")
    if settings or overrides:
        raise app.UsageError(
            f"--{(settings or overrides)[0].split('=')[0].split('.')[-1]} goes with --model; a "
            "run's clips are drawn as its config says."
        )
    recipe, policies = rounds.open_finished(Path(_WORKDIR.value), drawing.MESH)
    name = _POLICY.value or list(policies)[-1]
    if name not in policies:
        raise ValueError(f"--policy={name}: {_WORKDIR.value} has {', '.join(policies)}")
    return drawing.open_policy(recipe, policies[name])


def _prompts() -> list[str]:
    if bool(_PROMPT.value) == bool(_PROMPTS_FILE.value):
        raise app.UsageError("give either --prompt or --prompts_file.")
    if _PROMPT.value:
        return [_PROMPT.value]
    lines = Path(_PROMPTS_FILE.value).read_text(encoding="utf-8").splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"--prompts_file={_PROMPTS_FILE.value} has no prompt")
    return prompts


def _read_noise(flag: flags.FlagHolder[str], axes: int) -> np.ndarray:
    noise = np.load(flag.value)
    if noise.ndim != axes:
        steps = "steps, " if axes == 6 else ""
        raise ValueError(
            f"--{flag.name}={flag.value} has shape {noise.shape}, wanted (clips, {steps}channels, "
            "frames, height, width) of the latents"
        )
    return np.moveaxis(noise, -4, -1).astype(np.float32)


def _first_frame(source) -> np.ndarray:
    from vidpref.datasets.video import decode_clip

    data = source.config.data
    frames = decode_clip(_IMAGE.value, frames=1, height=data.height, width=data.width)
    return frames[0]


def _path(index: int, count: int) -> Path:
    out = Path(_OUT.value)
    if out.suffix:
        return out if count == 1 else out.with_stem(f"{out.stem}-{index:03d}")
    return out / f"{index:03d}.mp4"


if __name__ == "__main__":
    program.launch(main)
