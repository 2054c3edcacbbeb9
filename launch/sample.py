"""Draws clips from a diffusers pipeline, with or without a LoRA, or from the policy of a run.

    python launch/sample.py --model=Wan2.1-T2V-1.3B-Diffusers --prompt="a fox runs" --out=fox.mp4
    python launch/sample.py --model=DIR --lora=LORA_DIR --prompts_file=prompts.txt --out=clips/
    python launch/sample.py --workdir=runs/wan --prompt="a fox runs" --out=fox.mp4
    python launch/sample.py --workdir=runs/quickstart --prompt="a red ball rolls" --scene=ID

--out is a video file, or a folder for several clips. Size, steps and guidance are those of the
pipeline's published settings where no flag says otherwise; a run's policy is drawn from as its
config says, with all that its clips go through: super-resolution, or a reward that guides them.

A generator that starts from a first frame takes that of --image. For a run there is a default: the
first frame of the held-out scene whose prompt is most like yours. It is printed, and --scene=ID
chooses another scene of the run's data.

To compare with another program, start both from the same noise (--init_noise) and compare latents
(--save_latents); both are channels first, [clips, channels, frames, height, width], as diffusers
has them for Wan. Where the sampler adds noise at its steps (cogvideox_dpm), --step_noise gives
that, [clips, steps, channels, ...].
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from vidpref.runs import command_line

_MODEL = flags.DEFINE_string("model", None, "Folder of a diffusers pipeline.")
_LORA = flags.DEFINE_string("lora", "", "Folder or file of a LoRA for --model.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run, instead of --model.")
_POLICY = flags.DEFINE_string("policy", "", "Policy of --workdir; the last one if not given.")
_PROMPT = flags.DEFINE_string("prompt", "", "What the clip shows.")
_PROMPTS_FILE = flags.DEFINE_string("prompts_file", "", "Text file with one prompt a line.")
_IMAGE = flags.DEFINE_string("image", "", "Image or video whose first frame the clips start from.")
_SCENE = flags.DEFINE_string(
    "scene",
    "",
    "Id of the scene in the data of --workdir whose first frame the clips start from; that with "
    "the nearest held-out prompt if not given.",
)
_OUT = flags.DEFINE_string("out", "sample.mp4", "Video file, or folder for several clips.")
_PER_PROMPT = flags.DEFINE_integer("per_prompt", 1, "Clips of each prompt.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.")
_FPS = flags.DEFINE_float("fps", None, "Frames a second of the video file; as trained by default.")
_NOISE = flags.DEFINE_string("init_noise", "", ".npy file of the noise to start from.")
_STEP_NOISE = flags.DEFINE_string("step_noise", "", ".npy file of the noise that steps add.")
_LATENTS = flags.DEFINE_string("save_latents", "", ".npy file for the sampled latents.")


def _size(name: str, meaning: str) -> flags.FlagHolder:
    return flags.DEFINE_integer(name, None, meaning, lower_bound=1)


_SETTINGS = {  # field of the config -> flag
    "sampler.steps": _size("steps", "Denoising steps of a clip."),
    "sampler.guidance_scale": flags.DEFINE_float(
        "guidance_scale", None, "Strength of classifier-free guidance by the prompt; 1 is none."
    ),
    "sampler.negative_prompt": flags.DEFINE_string("negative_prompt", None, "What not to show."),
    "sampler.dynamic_guidance": flags.DEFINE_bool(
        "dynamic_guidance",
        None,
        "Whether the strength of guidance changes from step to step (CogVideoX's use_dynamic_cfg).",
    ),
    "sampler.name": flags.DEFINE_string(
        "sampler", None, "Sampler, such as euler, unipc or cogvideox_dpm."
    ),
    "sampler.batch_size": _size("batch_size", "Clips drawn at once."),
    "data.height": _size("height", "Height of the clips in pixels."),
    "data.width": _size("width", "Width of the clips in pixels."),
    "data.frames": _size("num_frames", "Frames of a clip."),
}
_DTYPE = flags.DEFINE_string(
    "dtype", None, "Type in which the network and the text encoder compute, such as float32."
)


def main(overrides: Sequence[str]) -> None:
    prompts = _check_flags(overrides)
    count = len(prompts) * _PER_PROMPT.value
    _check_paths(count)
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    command_line.start_devices(Path(_WORKDIR.value or cache / "vidpref"))
    from vidpref.datasets.video_writing import PLAYED_FPS, encode_clip, encode_clip_bytes

    # fail now on a suffix that cannot be written, and not when the clips are there
    black = np.zeros((1, 16, 16, 3), np.uint8)
    encode_clip_bytes(black, 8, container=_path(0, count).suffix.lstrip("."))
    noise = _read_noise(_NOISE, 5) if _NOISE.value else None
    step_noise = _read_noise(_STEP_NOISE, 6) if _STEP_NOISE.value else None
    from vidpref.runs import prompted

    source = _open(overrides)
    if _LATENTS.value and not source.generator.latent:
        raise ValueError("--save_latents: this generator makes pixels")
    drawn = prompted.draw(
        source,
        _scenes(source, prompts),
        seed=_SEED.value,
        per_scene=_PER_PROMPT.value,
        noise=noise,
        step_noise=step_noise,
    )
    fps = _FPS.value or source.config.data.fps or PLAYED_FPS
    for path in (_path(0, count), Path(_LATENTS.value)):
        path.parent.mkdir(parents=True, exist_ok=True)
    latents = []
    for i, (prompt, clip, latent) in enumerate(drawn):
        path = _path(i, count)
        encode_clip(path, clip, fps)
        latents.append(latent)
        print(f"{path}: {prompt}")
    if _LATENTS.value:
        np.save(_LATENTS.value, np.moveaxis(np.stack(latents), -1, 1))


def _check_flags(overrides: Sequence[str]) -> list[str]:
    """Returns the prompts; refuses flags that do not go together before a model is read."""
    if bool(_MODEL.value) == bool(_WORKDIR.value):
        raise app.UsageError("give either --model=FOLDER or --workdir=FOLDER.")
    if bool(_PROMPT.value) == bool(_PROMPTS_FILE.value):
        raise app.UsageError("give either --prompt or --prompts_file.")
    for flag in (_POLICY, _SCENE):
        if flag.value and _MODEL.value:
            raise app.UsageError(f"--{flag.name} goes with --workdir: it names a part of a run.")
    if _SCENE.value and _IMAGE.value:
        raise app.UsageError("give either --scene or --image.")
    if _LORA.value and _WORKDIR.value:
        raise app.UsageError("--lora goes with --model; a run's policy has its own adapters.")
    given = [*_settings(), *overrides]
    if given and _WORKDIR.value:
        name = given[0].split("=")[0]
        flag = f"--{_SETTINGS[name].name}" if name in _SETTINGS else f"--config.{name}"
        flag = "--dtype" if name == "compute_dtype" else flag
        raise app.UsageError(
            f"{flag} goes with --model; a run's clips are drawn as its config says."
        )
    if _FPS.value is not None and not (math.isfinite(_FPS.value) and _FPS.value > 0):
        raise app.UsageError(f"--fps={_FPS.value:g}: give a number above 0, such as 8.")
    return [_PROMPT.value] if _PROMPT.value else _read_prompts()


def _read_prompts() -> list[str]:
    lines = Path(_PROMPTS_FILE.value).read_text(encoding="utf-8").splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"--prompts_file={_PROMPTS_FILE.value} has no prompt")
    return prompts


def _check_paths(count: int) -> None:
    """Refuses files that are not there, and folders in the place of files or the reverse."""
    for flag in (_IMAGE, _NOISE, _STEP_NOISE):
        if flag.value and not Path(flag.value).is_file():
            raise ValueError(f"--{flag.name}={flag.value}: no such file")
    out = Path(_OUT.value)
    if not _is_video(out) and out.exists() and not out.is_dir():
        raise ValueError(f"--out={out} is a file: name a folder, or a video such as {out}.mp4")
    for path in (_path(i, count) for i in range(count)):
        if path.is_dir():
            raise ValueError(
                f"--out={_OUT.value}: {path} is a folder; name a video file, or end the name of a "
                "folder with /"
            )
    latents = Path(_LATENTS.value)
    for path in (_path(0, count), latents):
        file = next(parent for parent in path.absolute().parents if parent.exists())
        if not file.is_dir():
            raise ValueError(f"{path} cannot be written: {file} is no folder")
    if _LATENTS.value and (latents.suffix != ".npy" or latents.is_dir()):
        raise ValueError(f"--save_latents={latents}: name a file that ends in .npy")


def _settings() -> list[str]:
    """The fields of the config that flags change."""
    settings = [f"{field}={f.value}" for field, f in _SETTINGS.items() if f.value is not None]
    if _DTYPE.value:
        settings += [f"compute_dtype={_DTYPE.value}", f"text.dtype={_DTYPE.value}"]
    return settings


def _open(overrides: Sequence[str]):
    from vidpref.runs import prompted

    if _MODEL.value:
        return prompted.open_pipeline(_MODEL.value, [*_settings(), *overrides], _LORA.value)
    from vidpref.runs import rounds

    recipe, policies = rounds.open_finished(Path(_WORKDIR.value), prompted.MESH)
    name = _POLICY.value or list(policies)[-1]
    if name not in policies:
        raise ValueError(f"--policy={name}: {_WORKDIR.value} has {', '.join(policies)}")
    return prompted.open_policy(recipe, policies[name])


def _scenes(source, prompts: Sequence[str]) -> list:
    """Returns a scene of each prompt, with the first frame that its clips start from."""
    from vidpref.runs import prompt_scenes

    if not source.generator.image and (_IMAGE.value or _SCENE.value):
        flag = _IMAGE if _IMAGE.value else _SCENE
        raise ValueError(
            f"--{flag.name}={flag.value}: this generator sees no first frame, it draws from the "
            "prompt alone; leave the flag out"
        )
    if _IMAGE.value:
        return prompt_scenes.own_scenes(prompts, _first_frame(source))
    if not source.generator.image:
        return prompt_scenes.own_scenes(prompts)
    if source.data is None:
        raise ValueError(
            "this generator starts from an image, the first frame of its clips: give --image=FILE"
        )
    if _SCENE.value:
        chosen = [prompt_scenes.scene_by_id(source.data, _SCENE.value)] * len(prompts)
    else:
        chosen = [prompt_scenes.nearest_scene(source.data, prompt) for prompt in prompts]
    for prompt, scene in zip(prompts, chosen, strict=True):
        print(f"{prompt}: from the first frame of scene {scene.id} ({scene.text})")
    if not _SCENE.value:
        print("(the nearest prompts of the run's data; --scene=ID or --image=FILE choose others)")
    return prompt_scenes.borrow_first_frames(prompts, chosen)


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


def _is_video(out: Path) -> bool:
    return bool(out.suffix) and not _OUT.value.endswith("/")


def _path(index: int, count: int) -> Path:
    out = Path(_OUT.value)
    if _is_video(out):
        return out if count == 1 else out.with_stem(f"{out.stem}-{index:03d}")
    return out / f"{index:03d}.mp4"


if __name__ == "__main__":
    command_line.launch(main)
