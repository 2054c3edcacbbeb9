"""Compares a base with what tuned it: draws clips of both, has them judged, writes a page.

    python launch/evaluate.py --model=Wan2.1-T2V-1.3B-Diffusers --lora=wan-lora --prompts=ta_hard \\
        --judges=videoreward,metrics:clip_score+optical_flow --out=evaluation/ \\
        --config.reward.metrics.clip_score.folder=clip-vit-base-patch16 \\
        --config.reward.metrics.optical_flow.weights=raft_large.safetensors
    python launch/evaluate.py --model=DIR --tuned=TUNED_DIR --prompts=prompts.txt \\
        --judges=remote_judge:accept --config.reward.remote_judge.base_url=http://judge:8000/v1 \\
        --config.reward.remote_judge.model=NAME --out=evaluation/
    python launch/evaluate.py --workdir=runs/dpo --prompts=prompts.txt --judges=verifier \\
        --out=evaluation/

Both models draw each clip from the same noise, so every judge's scores are compared clip by clip:
means before and after, their difference and the win rate with ties, with 95 % intervals clustered
by prompt. --prompts is a set of data/prompts by name (aif, ta_hard, vbench, videogen_eval, ...), a
text file with a prompt a line, a table with a column prompt or in VBench's layout, or a folder of
such files. --judges are names, folders of judges or finished runs, separated by commas, each with
:DIMENSION+DIMENSION behind it if it likes. --config.reward.x=y goes to the judges,
--config.sampler.steps=20, --config.data.height=480 and the like to the drawing of both models.

Clips are MP4 files in --out. The same command goes on where it was stopped, and neither draws nor
scores a clip twice; further prompts, clips or judges add to what is there. The hosts of a pod
divide the clips; --out lies on a file system that all share.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line
from vidpref.runs.drawing_fields import draws
from vidpref.storage.mirror import open_folder

_MODEL = flags.DEFINE_string("model", None, "Folder of a diffusers pipeline, the model before.")
_LORA = flags.DEFINE_string("lora", "", "Folder or file of a LoRA, for the model after.")
_LORA_SCALE = flags.DEFINE_float("lora_scale", 1.0, "By what --lora is multiplied.")
_TUNED = flags.DEFINE_string("tuned", "", "Folder of a tuned pipeline, the model after.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a finished run: its pre-trained policy before, --policy after."
)
_POLICY = flags.DEFINE_string("policy", "", "Policy of --workdir; the last one if not given.")
_PROMPTS = flags.DEFINE_string("prompts", None, "Name of a set of prompts, a file, or a folder.")
_LIMIT = flags.DEFINE_integer(
    "limit",
    0,
    "Prompts at most, drawn by a hash of their texts: a smaller choice is part of a larger one; 0: "
    "all.",
    lower_bound=0,
)
_PER_PROMPT = flags.DEFINE_integer("per_prompt", 1, "Clips of each prompt.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0, upper_bound=2**31 - 1)
_JUDGES = flags.DEFINE_list("judges", [], "Judges by name or folder, separated by commas.")
_FRAMES = flags.DEFINE_integer(
    "num_frames", 0, "Frames of a clip that judges are shown at most; 0: all.", lower_bound=0
)
_BATCH = flags.DEFINE_integer("batch_size", 8, "Clips that are judged at once.", lower_bound=1)
_SHOWN = flags.DEFINE_integer(
    "shown", 24, "Prompts whose clips the page shows; 0: all.", lower_bound=0
)
_OUT = flags.DEFINE_string("out", None, "Folder of clips, scores, tables and the page.")
_OF_JUDGES = "reward."


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    from vidpref.datasets.prompt_sets import read_prompt_set
    from vidpref.runs.named_judges import judge_configs

    prompts = read_prompt_set(_PROMPTS.value)
    judges = judge_configs(_JUDGES.value, [o for o in overrides if o.startswith(_OF_JUDGES)])
    out = Path(_OUT.value)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out={out} is a file: name a folder")
    command_line.start_devices(out, list(judges.values()))
    from vidpref.coordination.agreeing import first_host
    from vidpref.runs import model_evaluation, workdir
    from vidpref.runs.score_videos import Showing

    models = _models([o for o in overrides if not o.startswith(_OF_JUDGES)])
    what = model_evaluation.Evaluation(
        models, prompts.first(_LIMIT.value), judges, _PER_PROMPT.value, _SEED.value
    )
    with workdir.locked(out):
        showing = Showing(frames=_FRAMES.value, batch_size=_BATCH.value)
        judged = model_evaluation.evaluate(what, out, showing)
        command = shlex.join(["python", *sys.argv])
        tables = model_evaluation.write(what, judged, out, shown=_SHOWN.value, command=command)
    if first_host():
        print(what.prompts)
        print(tables)
        print(f"report: {out / model_evaluation.PAGE}")


def _models(overrides: Sequence[str]) -> tuple:
    from vidpref.runs import compared_models

    if _WORKDIR.value:
        return compared_models.policies(open_folder(_WORKDIR.value), _POLICY.value)
    return compared_models.pipelines(
        _MODEL.value,
        overrides,
        lora=_LORA.value,
        lora_scale=_LORA_SCALE.value,
        tuned=_TUNED.value,
    )


def _check_flags(overrides: Sequence[str]) -> None:
    """Refuses flags that do not go together before a model is read."""
    wanted = {
        "--prompts=NAME or FILE": _PROMPTS,
        "--judges=JUDGE,JUDGE": _JUDGES,
        "--out=FOLDER": _OUT,
    }
    wrong = [f"{text} is missing." for text, flag in wanted.items() if not flag.value]
    if bool(_MODEL.value) == bool(_WORKDIR.value):
        wrong.append("give either --model=FOLDER or --workdir=FOLDER.")
    if _MODEL.value and not _WORKDIR.value:
        wrong += _wrong_with_model(overrides)
    elif _WORKDIR.value:
        wrong += [
            f"--{flag.name} goes with --model."
            for flag in (_LORA, _TUNED, _LORA_SCALE)
            if flag.present
        ]
        wrong += [
            f"--config.{name} goes with --model; a run's clips are drawn as its config says."
            for name in _fields(overrides)
        ]
    if any(not name.strip() for name in _JUDGES.value):
        wrong.append("--judges: a name is empty.")
    if wrong:
        raise app.UsageError("\n".join(wrong))


def _wrong_with_model(overrides: Sequence[str]) -> list[str]:
    wrong = []
    if _POLICY.value:
        wrong.append("--policy goes with --workdir: it names a part of a run.")
    if not _LORA.value and not _TUNED.value:
        wrong.append("give --lora=FILE or --tuned=FOLDER: what --model is compared with.")
    if _LORA_SCALE.present and not _LORA.value:
        wrong.append("--lora_scale goes with --lora=FILE.")
    for name in _fields(overrides):
        if name in ("model.init", "model.lora"):
            wrong.append(f"--config.{name}: give --{'lora' if 'lora' in name else 'model'}.")
        elif not draws(name):
            wrong.append(f"--config.{name} does nothing where clips are drawn and judged.")
    return wrong


def _fields(overrides: Sequence[str]) -> list[str]:
    """The fields that are given and are not of judges."""
    names = dict.fromkeys(override.partition("=")[0] for override in overrides)
    return [name for name in names if not name.startswith(_OF_JUDGES)]


if __name__ == "__main__":
    command_line.launch(
        main, reads=("model", "lora", "tuned", "workdir", "prompts"), may_be_empty=()
    )
