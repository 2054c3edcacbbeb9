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

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.config.overrides import DTYPE_SPELLINGS
from vidpref.config.schema import DTYPES
from vidpref.runs import command_line
from vidpref.runs.drawing_fields import draws
from vidpref.storage.copies import here
from vidpref.storage.mirror import open_folder

_MODEL = flags.DEFINE_string("model", None, "Folder of a diffusers pipeline.")
_LORA = flags.DEFINE_string("lora", "", "Folder or file of a LoRA for --model.")
_LORA_SCALE = flags.DEFINE_float(
    "lora_scale", 1.0, "By what --lora is multiplied; 0 leaves it out, 1 is as it was trained."
)
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
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0, upper_bound=2**31 - 1)
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
    "dtype",
    None,
    "Type in which the network and the text encoder of --model compute, float32 or bfloat16; by "
    "default float32 on a CPU, where bfloat16 is slower, and bfloat16 elsewhere.",
)


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    from vidpref.runs.clip_files import ClipFiles
    from vidpref.runs.own_inputs import read_noise, read_prompts

    prompts = [_PROMPT.value]
    if _PROMPTS_FILE.value:
        prompts = read_prompts(_PROMPTS_FILE.name, _PROMPTS_FILE.value)
    files = ClipFiles(_OUT.value, len(prompts) * _PER_PROMPT.value, _LATENTS.value)
    files.check(inputs=[path for path in (_IMAGE.value, _PROMPTS_FILE.value) if path])
    noise = read_noise(_NOISE.name, _NOISE.value, 5) if _NOISE.value else None
    step_noise = read_noise(_STEP_NOISE.name, _STEP_NOISE.value, 6) if _STEP_NOISE.value else None
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    command_line.start_devices(open_folder(_WORKDIR.value or cache / "vidpref"))
    from vidpref.datasets.video_writing import PLAYED_FPS
    from vidpref.runs import prompted

    files.check_encoding(16, 16, _FPS.value or PLAYED_FPS)
    source = _open(overrides)
    _check_source(source)
    fps = _FPS.value or source.config.data.fps or PLAYED_FPS
    files.check_encoding(*source.size, fps)
    drawn = prompted.draw(
        source,
        _scenes(source, prompts),
        seed=_SEED.value,
        per_scene=_PER_PROMPT.value,
        noise=noise,
        step_noise=step_noise,
    )
    with files, contextlib.closing(drawn):
        for prompt, clip, latent in drawn:
            print(f"{files.add(clip, latent, fps)}: {prompt}", flush=True)


def _check_flags(overrides: Sequence[str]) -> None:
    """Refuses flags that do not go together before a model is read."""
    wrong = []
    if bool(_MODEL.value) == bool(_WORKDIR.value):
        wrong.append("give either --model=FOLDER or --workdir=FOLDER.")
    if bool(_PROMPT.value) == bool(_PROMPTS_FILE.value):
        wrong.append("give either --prompt or --prompts_file.")
    if "\n" in _PROMPT.value:
        wrong.append("--prompt has a line break: a prompt is one line; --prompts_file holds many.")
    if _SCENE.value and _IMAGE.value:
        wrong.append("give either --scene or --image.")
    if _LORA_SCALE.present and not _LORA.value:
        wrong.append("--lora_scale goes with --lora=FILE (and --model).")
    if _FPS.value is not None and not _FPS.value > 0:
        wrong.append(f"--fps={_FPS.value:g}: give a number above 0, such as 8.")
    if _IMAGE.value and not here(_IMAGE.value).is_file():
        wrong.append(f"--image={_IMAGE.value}: no such file")
    if _MODEL.value and not _WORKDIR.value:
        wrong += _wrong_with_model(overrides)
    elif _WORKDIR.value:
        wrong += _wrong_with_workdir(overrides)
    if wrong:
        raise app.UsageError("\n".join(wrong))


def _wrong_with_model(overrides: Sequence[str]) -> list[str]:
    wrong = [
        f"--{flag.name} goes with --workdir: it names a part of a run."
        for flag in (_POLICY, _SCENE)
        if flag.value
    ]
    if _DTYPE.value and DTYPE_SPELLINGS.get(_DTYPE.value, _DTYPE.value) not in DTYPES:
        wrong.append(f"--dtype={_DTYPE.value}: known are {', '.join(DTYPES)}.")
    if _SETTINGS["sampler.guidance_scale"].value == 1.0:
        wrong += [
            f"--{_SETTINGS[field].name} does nothing with --guidance_scale=1, which is none."
            for field in ("sampler.negative_prompt", "sampler.dynamic_guidance")
            if _SETTINGS[field].value
        ]
    by_flags = {setting.partition("=")[0] for setting in _settings()}
    for name in dict.fromkeys(override.partition("=")[0] for override in overrides):
        if name in by_flags:
            flag = _SETTINGS.get(name, _DTYPE).name
            wrong.append(f"--config.{name} and --{flag} say the same thing: leave one out.")
        elif name in ("model.init", "model.lora"):
            wrong.append(f"--config.{name}: give --{'lora' if 'lora' in name else 'model'}.")
        elif not draws(name):
            wrong.append(f"--config.{name} does nothing where clips are drawn from --model.")
    return wrong


def _wrong_with_workdir(overrides: Sequence[str]) -> list[str]:
    wrong = []
    if _LORA.value:
        wrong.append("--lora goes with --model; a run's policy has its own adapters.")
    given = [f"--{flag.name}" for flag in (*_SETTINGS.values(), _DTYPE) if flag.value is not None]
    given += [f"--config.{override.partition('=')[0]}" for override in overrides]
    if given:
        wrong.append(
            f"{', '.join(given)} goes with --model; a run's clips are drawn as its config says."
        )
    return wrong


def _check_source(source) -> None:
    """Refuses flags that this generator has no use for, before its weights are read."""
    if _LATENTS.value and not source.generator.latent:
        raise ValueError("--save_latents: this generator makes pixels")
    fixed = _STEP_NOISE.value or not source.generator.sampler.adds_noise
    if _SEED.present and _NOISE.value and source.generator.latent and fixed:
        raise ValueError("--seed does nothing: all noise is given, by --init_noise")


def _settings() -> list[str]:
    """The fields of the config that flags change."""
    settings = [f"{field}={f.value}" for field, f in _SETTINGS.items() if f.value is not None]
    if _DTYPE.value:
        settings += [f"compute_dtype={_DTYPE.value}", f"text.dtype={_DTYPE.value}"]
    return settings


def _open(overrides: Sequence[str]):
    from vidpref.runs import prompted

    if _MODEL.value:
        settings = [*_settings(), *overrides]
        return prompted.open_pipeline(_MODEL.value, settings, _LORA.value, _LORA_SCALE.value)
    from vidpref.runs import rounds

    recipe, policies = rounds.open_finished(open_folder(_WORKDIR.value), prompted.MESH)
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
        data = source.config.data
        image = prompt_scenes.first_frame(_IMAGE.value, data.height, data.width)
        return prompt_scenes.own_scenes(prompts, image)
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
        _say(f"{prompt}: from the first frame of scene {scene.id} ({scene.text})")
    if not _SCENE.value:
        _say("(the nearest prompts of the run's data; --scene=ID or --image=FILE choose others)")
    return prompt_scenes.borrow_first_frames(prompts, chosen)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command_line.launch(
        main,
        may_be_empty=("negative_prompt",),
        reads=("model", "lora", "prompts_file", "image", "init_noise", "step_noise"),
    )
