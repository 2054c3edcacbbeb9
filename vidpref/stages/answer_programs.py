"""The programs of a judge that answers in words, planned for devices that need not be there.

Planned are the largest rows that its settings admit where it is trained, and those of drawn clips
where a run asks it; answers are as long as they may be.
"""

import math
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from vidpref.config.vlm_judge import PROBABILITIES, REASONED, WORDS
from vidpref.language.image_questions import ImageQuestions
from vidpref.models.frozen import Keeping
from vidpref.models.qwen_vl.inputs import from_arrays
from vidpref.models.qwen_vl.packing import Room, shapes_of, smallest
from vidpref.rewards import templates
from vidpref.rewards.questions import shown_frames
from vidpref.rewards.registry import dimensions_of
from vidpref.rewards.vlm_judge import ROW_TOKENS, answering, open_model, weighing
from vidpref.stages.answer_rows import largest_rows
from vidpref.stages.answer_training import AnswerReader, AnswerTraining, answer_training
from vidpref.stages.answer_worth import SUPPORTED, hierarchy_worth, reasoned_worth
from vidpref.stages.own_answers import drawing, drawn_training, sampling
from vidpref.stages.planned_judge import (
    bytes_of_a_token,
    drawn_clip,
    host_mesh,
    longest_prompt,
    planned_base,
)
from vidpref.training.rollouts import Draw, make_rollout
from vidpref.training.sharding import abstract_params, batch_sharding, filled_up, replicated
from vidpref.typing import Array, PyTree

Arguments = dict[str, PyTree]


def instruction_step(config: ConfigDict, mesh: Mesh) -> tuple[jax.stages.Wrapped, Arguments]:
    """Returns the step of instruction tuning, and what it is given.

    Raises:
        ValueError: a setting that cannot work.
    """
    training, own = _training(config, mesh), config.reward.vlm_judge
    clips = 2 if training.reader.pairs or training.reader.whole else 1
    said = own.max_tokens if own.answers in (WORDS, REASONED) else 1
    critic = config.judge.critic
    together = own.answers == PROBABILITIES if critic.ranking else critic.together
    if together:
        said = _conversation(config, training.reader, said)
    room, said = largest_rows(training.reader.questions, clips, own.frames, said)
    return training.plan.step, training.arguments(room, said)


def _conversation(config: ConfigDict, reader: AnswerReader, said: int) -> int:
    """Tokens from the first answer of a conversation about all dimensions on, at most."""
    frames, prompt = config.reward.vlm_judge.frames, longest_prompt(config)
    texts = [one.about(prompt, frames) for asked in reader.single.values() for one in asked]
    asked = [len(reader.questions.next_question(text)) for text in texts]
    return len(asked) * (said + 1) + sum(asked) - min(asked)


def drawing_of_answers(config: ConfigDict, phase: str, mesh: Mesh) -> tuple[Draw, Arguments]:
    """Returns how a phase draws answers, and what it is given.

    Args:
        config: the whole config.
        phase: of `own_answers.phases`.
        mesh: devices.

    Raises:
        ValueError: a setting that cannot work.
    """
    return _drawing(config, phase, mesh, _phase(config, phase, mesh))


def _drawing(
    config: ConfigDict, phase: str, mesh: Mesh, training: AnswerTraining
) -> tuple[Draw, Arguments]:
    section = config.judge[phase]
    reader, frames = training.reader, config.reward.vlm_judge.frames
    if phase == "hierarchy":
        clips, worth = 2, hierarchy_worth(tuple(config.judge.dimensions))
    else:
        clips, worth = 1, reasoned_worth(reader.supported)
    room, _ = largest_rows(reader.questions, clips, frames, 0)
    arguments = training.arguments(room, 1)
    if section.kl:
        params = abstract_params(
            jax.eval_shape(training.plan.tuning.network, jax.random.key(0)), mesh
        )
        arguments["frozen"] = training.plan.tuning.frozen(params, reference=params)
    prompts = arguments["batch"]
    del prompts["said"]
    prompts["example"] = _rows(mesh, prompts["tokens"].shape[0], (), jnp.int32)
    prepare = drawing(training, section, sampling(training, section), worth.next)
    return make_rollout(prepare, training.plan), arguments


def step_on_answers(
    config: ConfigDict, phase: str, mesh: Mesh
) -> tuple[jax.stages.Wrapped, Arguments]:
    """Returns the step of a phase that learns from its answers; arguments as above."""
    training = _phase(config, phase, mesh)
    draw, arguments = _drawing(config, phase, mesh, training)
    drawn = jax.eval_shape(draw, *arguments.values())
    batch = {
        name: _rows(mesh, x.shape[0], x.shape[1:], x.dtype)
        for name, x in drawn.items()
        if name not in ("example", SUPPORTED)
    }
    rows, group = drawn["lengths"].shape
    batch["advantage"] = _rows(mesh, rows, (group,), jnp.float32)
    return training.plan.step, {**arguments, "batch": batch}


def asking_about_clips(config: ConfigDict, mesh: Mesh) -> tuple[jax.stages.Wrapped, Arguments]:
    """Returns how the judge of `config.reward` is asked about drawn clips, on one host's devices.

    Raises:
        ValueError: a folder that holds no such model, or a setting that cannot work.
    """
    own, mesh = config.reward.vlm_judge, host_mesh(mesh)
    with tempfile.TemporaryDirectory() as folder:
        opened = planned_base(config, Path(folder), own.folder)
        pixels = own.min_pixels, own.max_pixels
        _, reader = open_model(str(opened.path), pixels, own.most_tokens, own.video_fps)
    module, room = opened.module(dtype=own.dtype, attention="auto"), _asked_room(config, reader)

    def init(key: Array) -> PyTree:
        return module.init(key, smallest(opened.config))["params"]

    target = abstract_params(jax.eval_shape(init, jax.random.key(0)), mesh)
    rows = filled_up(own.batch_size, mesh)
    shapes = shapes_of(opened.config, room, jnp.float32)
    arrays = {name: _rows(mesh, rows, x.shape, x.dtype) for name, x in shapes.items()}
    given = {"params": Keeping(init, "compute").all(target), "rows": from_arrays(arrays)}
    if own.answers == PROBABILITIES:
        return weighing(module, mesh), given
    key = jax.eval_shape(jax.random.key, 0)
    given["key"] = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=replicated(mesh))
    return answering(module, mesh, reader.rule(own.max_tokens, 0.0)), given


def _asked_room(config: ConfigDict, reader: ImageQuestions) -> Room:
    """The room of a drawn clip with its longest question, about the longest prompt."""
    own, clip = config.reward.vlm_judge, drawn_clip(config)
    shown = clip[shown_frames(len(clip), own.frames)]
    seen = reader.see(shown)
    asked = templates.asked(dimensions_of(config.reward), own.answers, own.graded, own.templates)
    questions = [one for several in asked.values() for one in several]
    texts = [one.about(longest_prompt(config), len(shown)) for one in questions]
    rows = [reader.row(seen, text) for text in texts]
    features = sum(media.tokens(reader.config) for media, _ in seen)
    said = max(len(row.tokens) for row in rows) - features
    tokens = features + math.ceil(said / bytes_of_a_token(config, own.folder))
    patches = max(pixels.shape[1] for _, pixels in seen)
    return Room(
        -(-tokens // ROW_TOKENS) * ROW_TOKENS, sum(media.grid[0] for media, _ in seen), patches
    )


def _training(config: ConfigDict, mesh: Mesh) -> AnswerTraining:
    with tempfile.TemporaryDirectory() as folder:
        return answer_training(config, planned_base(config, Path(folder)), mesh, seed=0)


def _phase(config: ConfigDict, phase: str, mesh: Mesh) -> AnswerTraining:
    return drawn_training(_training(config, mesh), config.judge[phase], phase)


def _rows(mesh: Mesh, rows: int, shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=batch_sharding(mesh))
