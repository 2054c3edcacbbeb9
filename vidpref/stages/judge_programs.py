"""The programs of a judge that scores, planned for devices that need not be there.

Planned are the largest rows that its settings admit in training, and those of drawn clips where a
run asks it. The model that it is trained from need not be there, see `planned_base`.
"""

import math
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.by_name import judge_names
from vidpref.interop.video_reward import policy_shapes
from vidpref.language.video_reward import RewardReader
from vidpref.models.lora import Adapted, LoRA
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.reward import QwenVLReward, from_arrays, shapes_of
from vidpref.rewards.registry import dimensions_of
from vidpref.rewards.video_reward import ROW_TOKENS, keeping, open_folder, scoring
from vidpref.stages.judge_rows import largest_room
from vidpref.stages.judge_training import JudgeTraining, judge_training
from vidpref.stages.planned_judge import (
    bytes_of_a_token,
    drawn_clip,
    host_mesh,
    longest_prompt,
    planned_base,
)
from vidpref.training.parts_and_adapters import PartsAndAdapters
from vidpref.training.sharding import abstract_params, batch_sharding, filled_up, row_shards
from vidpref.typing import PyTree

Arguments = dict[str, PyTree]


def is_judge(config: ConfigDict) -> bool:
    """Whether a config is one of launch/train_judge.py, which has no generator."""
    return config.name in judge_names()


def training_step(config: ConfigDict, mesh: Mesh) -> tuple[jax.stages.Wrapped, Arguments]:
    """Returns the step that trains the judge that scores of `config.judge`, and its arguments.

    Raises:
        ValueError: a setting that cannot work.
    """
    training = _training(config, mesh)
    return training.plan.step, training.arguments(largest_room(training.reader))


def scoring_of_stage(config: ConfigDict, mesh: Mesh) -> tuple[jax.stages.Wrapped, Arguments]:
    """Returns how the stage scores clips that nothing was learnt from, to normalise its scores."""
    training = _training(config, mesh)
    room = largest_room(training.reader)
    rows = filled_up(config.judge.score_batch, mesh)
    return training.scorer, _scored(training.module, _lora(training), mesh, rows, room)


def scoring_of_clips(config: ConfigDict, mesh: Mesh) -> tuple[jax.stages.Wrapped, Arguments]:
    """Returns how the judge of `config.reward` scores drawn clips, on the devices of one host.

    Raises:
        ValueError: a folder that holds no judge, or a setting that cannot work.
    """
    own, mesh = config.reward.video_reward, host_mesh(mesh)
    bytes_a_token = 1.0
    if own.folder:
        opened = open_folder(own.folder, own.base, dimensions_of(config.reward))
        module, reader, spec = opened.module(), opened.reader(own.template), opened.lora
    else:
        module, reader, spec, bytes_a_token = judge_of_run(config, mesh)
    module = module.clone(attention="auto", remat="none", dtype=own.dtype)
    room = _room_of_drawn(config, reader, bytes_a_token)
    arguments = _scored(module, spec, mesh, filled_up(own.batch_size, mesh), room, kept=True)
    return scoring(module, mesh), arguments


def judge_of_run(
    config: ConfigDict, mesh: Mesh
) -> tuple[QwenVLReward, RewardReader, LoRA | None, float]:
    """Returns the network, reader and adapters of the judge that a run trains, without weights.

    And, where its tokenizer is not known, how many bytes a token has of ours, else 1.

    Args:
        config: the whole config.
        mesh: devices.

    Raises:
        ValueError: a setting that cannot work.
    """
    training = _training(config, mesh, batch_size=row_shards(mesh))
    return training.module, training.reader, _lora(training), bytes_of_a_token(config)


def tokens_of_drawn(config: ConfigDict, reader: RewardReader, bytes_a_token: float) -> int:
    """Returns the tokens of the row of a drawn clip with the longest prompt its generator reads."""
    return _room_of_drawn(config, reader, bytes_a_token).tokens


def _room_of_drawn(config: ConfigDict, reader: RewardReader, bytes_a_token: float) -> Room:
    """The room of a drawn clip with the longest prompt that its generator reads."""
    seen, _ = reader.shown(drawn_clip(config), config.reward.video_reward.fps)
    tokens, frames, patches = reader.room(*seen.shape[:3], longest_prompt(config))
    features = frames * patches // reader.vision.merged
    tokens = features + math.ceil((tokens - features) / bytes_a_token)
    return Room(-(-tokens // ROW_TOKENS) * ROW_TOKENS, frames, patches)


def _scored(
    module: QwenVLReward,
    spec: LoRA | None,
    mesh: Mesh,
    rows: int,
    room: Room,
    *,
    kept: bool = False,
) -> Arguments:
    """What a program of `scoring` is given; `kept` as the judge of a run keeps it."""
    target = abstract_params(policy_shapes(module, spec), mesh)
    params = keeping(module).all(target["params"]) if kept else target["params"]
    policy = params if spec is None else Adapted(params, target["adapters"], spec)
    shapes = shapes_of(module.config, module.dimensions, room, jnp.float32)
    arrays = {
        name: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype, sharding=batch_sharding(mesh))
        for name, x in shapes.items()
    }
    return {"params": policy, "rows": from_arrays(arrays)}


def _lora(training: JudgeTraining) -> LoRA | None:
    tuning = training.plan.tuning
    return tuning.adapters.spec if isinstance(tuning, PartsAndAdapters) else None


def _training(config: ConfigDict, mesh: Mesh, batch_size: int | None = None) -> JudgeTraining:
    section = config.judge
    if batch_size is not None:  # the network alone is asked for
        section = section.copy_and_resolve_references()
        section.train.update({"batch_size": batch_size, "accumulate": 1})
    with tempfile.TemporaryDirectory() as folder:
        base = planned_base(config, Path(folder))
        return judge_training(section, base, mesh, dtype=config.compute_dtype, seed=0)
