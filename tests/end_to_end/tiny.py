"""A config small enough to run the whole recipe in a test, and data for it.

One level and Adam, because compiling takes most of the time; the networks and Muon have tests of
their own.
"""

from pathlib import Path
from types import ModuleType

import numpy as np

from vidpref.config.by_name import PROJECT_ROOT, import_from_checkout
from vidpref.datasets.video_writing import encode_clip

TINY = (
    "model.unet3d.features=(32,)",
    "model.unet3d.blocks=(1,)",
    "model.unet3d.spatial=(False,)",
    "model.unet3d.temporal=(True,)",
    "model.unet3d.cross=(True,)",
    "text.dim=8",
    "pretrain.train.steps=6",
    "pretrain.train.optimizer.name=adam",
    "pretrain.train.optimizer.learning_rate=1e-3",
    "pretrain.train.batch_size=8",
    "pretrain.train.checkpoint_every=0",
    "pretrain.train.log_every=1",
    "align.train.steps=6",
    "align.train.batch_size=8",
    "align.train.checkpoint_every=0",
    "align.train.log_every=1",
    "align.validation.prompts=4",
    "align.validation.per_prompt=1",
    "sampler.steps=2",
    "sampler.batch_size=8",
    "label.prompts=6",
    "label.per_prompt=4",
    "evaluate.train_prompts=5",
    "evaluate.test_prompts=5",
    "evaluate.per_prompt=4",
)

# The same for the configs whose generator is the transformer with rectified flow.
TINY_FLOW = (
    *(field for field in TINY if not field.startswith("model.")),
    "model.dit.width=32",
    "model.dit.layers=2",
    "model.dit.head_dim=16",
    "model.dit.cond_dim=16",
)

# Of the judge that videoalign trains.
_TINY_JUDGE = (
    "judge.scratch.layers=1",
    "judge.scratch.width=32",
    "judge.scratch.vision_width=16",
    "judge.train.steps=3",
    "judge.train.batch_size=8",
    "judge.train.checkpoint_every=0",
    "judge.train.log_every=1",
)
TINY_JUDGE = (*_TINY_JUDGE, "judge.score_batch=16", "reward.video_reward.batch_size=16")
TINY_ANSWERS = (*_TINY_JUDGE, "reward.vlm_judge.batch_size=16")  # of a judge in words

# Of a Wan2.1 pipeline from `tiny_pipelines`, with `few_preferences`.
TINY_WAN = (
    "data.frames=9",
    "data.height=32",
    "data.width=48",
    "data.fps=8.0",
    "data.held_out=0.0",
    "data.encode_batch=8",
    "data.buckets=()",
    "mesh.fsdp=1",
    "mesh.context=1",
    "compute_dtype=float32",
    "text.dtype=float32",
    "text.length=16",
    "align.train.steps=3",
    "align.train.batch_size=8",
    "align.train.log_every=1",
    "align.train.checkpoint_every=0",
    "align.train.optimizer.learning_rate=0.01",
    "align.train.optimizer.warmup_steps=0",
    "align.lora.rank=3",
    "sampler.steps=1",
    "sampler.batch_size=8",
    "evaluate.train_prompts=1",
)


def few_clips() -> tuple[ModuleType, list]:
    """Returns the module of the mini world's builder, and its configs with few clips."""
    file = PROJECT_ROOT / "data" / "miniworld" / "miniworld_dataset_builder.py"
    builder = import_from_checkout(file)
    return builder, [
        builder.MiniworldConfig(name=c.name, pretrain_clips=64, scenes_per_prompt=1,
                                high_resolution=c.high_resolution, camera=c.camera)
        for c in builder.Miniworld.BUILDER_CONFIGS
    ]  # fmt: skip


def few_preferences(folder: Path) -> None:
    """Writes eight videos of noise, and `pairs.csv`, which compares them pair by pair."""
    rng = np.random.default_rng(1)
    for name in (f"{name}{i}" for name in ("good", "bad") for i in range(4)):
        frames = rng.integers(0, 256, (9, 32, 48, 3), np.uint8)
        encode_clip(folder / f"{name}.mp4", frames, fps=8)
    lines = ["path_A,path_B,prompt,Overall"]
    lines += [f"good{i}.mp4,bad{i}.mp4,a red circle {i},A" for i in range(4)]
    (folder / "pairs.csv").write_text("\n".join(lines))
