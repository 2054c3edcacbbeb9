"""What the three methods of the AIF paper share: data, generator, judge, training settings.

Paper:    "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback";
          appendix A gives every constant of the `paper` scale.
Command:  python launch/compare.py --configs=sft_aif,rwr_aif,dpo_aif --scale=mini --seeds=3
          --workdir=runs/compare
Hardware: mini 2 CPU cores, on the embedded mini world; paper 128 cores of TPU v3, not run.
Time:     mini, measured: the command above, two rounds each, about 33 minutes.
Number:   in the three configs; how the constants of `mini` were chosen, in docs/measurements.md.

What a field means, may be and touches is in `vidpref/config/schema.py`, or printed by `--describe`.
"""

from ml_collections import ConfigDict

from vidpref.config.schema import new_config
from vidpref.models.dit import sizes as dit_sizes
from vidpref.models.unet3d import sizes as unet3d_sizes

PAPER = "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback"
RATE = "align.train.optimizer.learning_rate"


def rates(*values: str) -> tuple[str, ...]:
    """Returns a `search` among learning rates; the first is the config's own."""
    return tuple(f"{RATE}={value}" for value in values)


def base(scale: str) -> ConfigDict:
    """Returns the fields that do not depend on the method, at `scale` ("mini" or "paper")."""
    return {"mini": _mini, "paper": _paper}[scale]()


def _paper() -> ConfigDict:
    c = new_config()
    c.paper = PAPER
    # 128 cores: 64 rows over data 8 x fsdp 8; the two clips of a pair over context.
    c.mesh.update({"fsdp": 8, "context": 2})

    c.data.name = "something_something_v2"
    c.data.update({"frames": 16, "height": 24, "width": 40, "high_height": 192, "high_width": 320})
    c.text.update({"name": "t5", "length": 64, "dim": 4096})
    c.model.unet3d.update(unet3d_sizes.PAPER_BASE)
    c.model.dit.update(dit_sizes.PAPER_FULL)
    c.model.st_dit.update(dit_sizes.PAPER)
    c.sampler.update({"name": "ddim", "steps": 50, "guidance_scale": 5.0, "batch_size": 128})

    c.pretrain.condition_dropout = 0.1
    _training(c.pretrain.train, learning_rate=1e-4, warmup_steps=10_000, steps=125_000)
    c.superres.update({"enabled": True, "low_res_augmentation": 0.3, "sampler_steps": 50})
    c.superres.model.unet3d.update(unet3d_sizes.PAPER_SUPERRES)
    _training(c.superres.train, learning_rate=1e-4, warmup_steps=10_000, steps=125_000)

    c.label.per_prompt = 128
    c.reward.name = "remote_judge"

    # As the paper has it: a warm-up as long as the run, so that the rate rises to 1e-4 and never
    # falls; half of the run is below half of it.
    _training(c.align.train, learning_rate=1e-4, warmup_steps=10_000, steps=10_000)
    c.align.train.best_metric = "accept"
    c.align.validation.update({"prompts": 12, "per_prompt": 8})

    c.evaluate.per_prompt = 32
    c.evaluate.best_of = (8, 32)
    return c


def _training(train: ConfigDict, *, learning_rate: float, warmup_steps: int, steps: int) -> None:
    """Adam with a linear decay and clipped gradients, as everywhere in the paper."""
    train.update({"steps": steps, "batch_size": 64})
    train.optimizer.update({"name": "adam", "decay": "linear", "clip_norm": 1.0})
    train.optimizer.update({"learning_rate": learning_rate, "warmup_steps": warmup_steps})


def _mini() -> ConfigDict:
    c = _paper()
    c.expected_time = "about 6 minutes on 2 CPU cores"
    c.compute_dtype = "float32"
    c.mesh.update({"fsdp": 1, "context": 1})
    c.data.name = "miniworld"
    c.data.update({"frames": 8, "height": 16, "width": 16, "high_height": 32, "high_width": 32})
    c.text.update({"name": "words", "length": 12, "dim": 32})
    c.model.unet3d.update(unet3d_sizes.MINI)
    c.model.dit.update(dit_sizes.MINI_FULL)
    c.model.st_dit.update(dit_sizes.MINI)
    # A network that predicts x0 as the first frame plus a residual, with its error measured there:
    # equal weight for all times puts the most into high noise, where the motion is decided.
    c.diffusion.update({"prediction": "x0", "error_in": "x0"})
    c.sampler.update({"steps": 8, "guidance_scale": 1.0, "batch_size": 200})

    c.pretrain.condition_dropout = 0.0
    for train, steps in ((c.pretrain.train, 600), (c.superres.train, 300)):
        train.update({"steps": steps, "batch_size": 32, "ema_decay": 0.99})
        train.optimizer.update({"name": "muon", "learning_rate": 0.02, "warmup_steps": 20})
    c.superres.update({"enabled": False, "sampler_steps": 4})
    c.superres.model.unet3d.update(unet3d_sizes.MINI_SUPERRES)

    c.label.update({"prompts": 400, "per_prompt": 8})
    c.reward.name = "verifier"

    # 64 clips a step for every method: 64 rows of one clip, or 32 pairs.
    c.align.train.update({"steps": 300, "batch_size": 64, "best_metric": ""})
    c.align.train.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 10})
    c.align.validation.update({"prompts": 100, "per_prompt": 8})

    c.evaluate.update({"train_prompts": 250, "per_prompt": 4})
    c.evaluate.best_of = (1, 4)
    return c
