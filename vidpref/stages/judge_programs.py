"""The programs of a judge that is a network, planned for devices that need not be there.

Planned are the largest rows that its settings admit in training, and those of drawn clips where a
run asks it. The model that a judge is trained from need not be there: its size is then that of the
published model of this name.
"""

import math
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.by_name import judge_names
from vidpref.config.judge import ANSWERS
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.interop.video_reward import policy_shapes
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.language.video_reward import RewardReader
from vidpref.models.lora import Adapted, LoRA
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.reward import QwenVLReward, from_arrays, shapes_of
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.rewards.registry import dimensions_of
from vidpref.rewards.video_reward import ROW_TOKENS, keeping, open_folder, scoring
from vidpref.stages.answer_rows import largest_rows
from vidpref.stages.answer_training import answer_training
from vidpref.stages.judge_kinds import KINDS, scratch_tokenizer
from vidpref.stages.judge_rows import largest_room
from vidpref.stages.judge_training import JudgeTraining, judge_training
from vidpref.stages.scratch_model import numbers_of_tokens, scratch_config, without_weights
from vidpref.storage.copies import is_folder
from vidpref.training.parts_and_adapters import PartsAndAdapters
from vidpref.training.sharding import (
    abstract_params,
    batch_sharding,
    filled_up,
    make_mesh,
    row_shards,
)
from vidpref.typing import PyTree

Arguments = dict[str, PyTree]
_SMALLEST = "Qwen2-VL-2B"  # what VideoReward was made of
_BYTES_A_TOKEN = 4  # of English in Qwen's tokenizer


def is_judge(config: ConfigDict) -> bool:
    """Whether a config is one of launch/train_judge.py, which has no generator."""
    return config.name in judge_names()


def training_step(config: ConfigDict, mesh: Mesh) -> tuple[jax.stages.Wrapped, Arguments]:
    """Returns the step that trains the judge of `config.judge`, and what it is given.

    Raises:
        ValueError: a setting that cannot work.
    """
    if config.judge.name == ANSWERS:
        with tempfile.TemporaryDirectory() as folder:
            answering = answer_training(config, _base(config, Path(folder)), mesh, seed=0)
        own = config.reward.vlm_judge
        clips = 2 if answering.reader.pairs else 1
        said = own.max_tokens if own.answers == "words" else 1
        room, said = largest_rows(answering.reader.questions, clips, own.frames, said)
        return answering.plan.step, answering.arguments(room, said)
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
    own, first = config.reward.video_reward, mesh.devices.flat[0]
    host = [d for d in mesh.devices.flat if d.process_index == first.process_index]
    mesh = make_mesh({"fsdp": -1}, host)
    bytes_a_token = 1
    if own.folder:
        opened = open_folder(own.folder, own.base, dimensions_of(config.reward))
        module, reader, spec = opened.module(), opened.reader(own.template), opened.lora
    else:
        module, reader, spec, bytes_a_token = planned_judge(config, mesh)
    module = module.clone(attention="auto", remat="none", dtype=own.dtype)
    room = _room_of_drawn(config, reader, bytes_a_token)
    arguments = _scored(module, spec, mesh, filled_up(own.batch_size, mesh), room, kept=True)
    return scoring(module, mesh), arguments


def planned_judge(
    config: ConfigDict, mesh: Mesh
) -> tuple[QwenVLReward, RewardReader, LoRA | None, int]:
    """Returns the network, reader and adapters of the judge that a run trains, without weights.

    And, where its tokenizer is not known, how many bytes a token has of ours, else 1.

    Args:
        config: the whole config.
        mesh: devices.

    Raises:
        ValueError: a setting that cannot work.
    """
    training = _training(config, mesh, batch_size=row_shards(mesh))
    known = config.judge.scratch.layers or _base_is_there(config.judge)
    return training.module, training.reader, _lora(training), 1 if known else _BYTES_A_TOKEN


def tokens_of_drawn(config: ConfigDict, reader: RewardReader, bytes_a_token: int) -> int:
    """Returns the tokens of the row of a drawn clip with the longest prompt its generator reads."""
    return _room_of_drawn(config, reader, bytes_a_token).tokens


def _room_of_drawn(config: ConfigDict, reader: RewardReader, bytes_a_token: int) -> Room:
    """The room of a drawn clip with the longest prompt that its generator reads."""
    data = config.data
    size = (data.height, data.width)
    if config.superres.enabled:
        size = (data.high_height, data.high_width)
    clip = np.zeros((data.frames, *size, 3), np.uint8)
    seen, _ = reader.shown(clip, config.reward.video_reward.fps)
    tokens, frames, patches = reader.room(*seen.shape[:3], " ".join(["word"] * config.text.length))
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
        base = _base(config, Path(folder))
        return judge_training(section, base, mesh, dtype=config.compute_dtype, seed=0)


def _base_is_there(section: ConfigDict) -> bool:
    return bool(section.base) and is_folder(section.base)


def _base(config: ConfigDict, folder: Path) -> QwenVLFolder:
    """The model that a judge is trained from, without weights in `folder` where it is not there."""
    section = config.judge
    if not section.scratch.layers and _base_is_there(section):
        return QwenVLFolder(section.base)
    if section.scratch.layers:
        tokenizer = scratch_tokenizer(config)
        fields = scratch_config(section.scratch, tokenizer).write()
    else:
        name = Path(section.base).name.removesuffix("-Instruct") or _SMALLEST
        if name not in PUBLISHED:
            raise ValueError(
                f"config.judge.base={section.base!r} is no folder, nor the name of a model whose "
                f"size is known: {', '.join(PUBLISHED)}"
            )
        tokenizer = ByteTokenizer(KINDS[section.name].tokens(config))
        fields = PUBLISHED[name] | numbers_of_tokens(tokenizer.numbers())
    return without_weights(folder, fields, tokenizer)
