"""Every compiled program of a run that takes memory, planned for devices that need not be there."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.align import FRESH_ROWS
from vidpref.config.judge import ANSWERS, SCORES
from vidpref.generation.autoencoder import Decoder, build_autoencoder
from vidpref.generation.cascade import DrawsClips, drawing
from vidpref.generation.first_frames import (
    FirstFrames,
    abstract_vision_params,
    build_image_encoder,
)
from vidpref.generation.generator import build_base, build_superres
from vidpref.generation.text_encoders import (
    abstract_text_params,
    encoding_text,
    rows_at_once,
    text_module,
)
from vidpref.models.registry import backbone
from vidpref.stages import answer_programs, judge_programs
from vidpref.stages.encode import encoding
from vidpref.stages.lessons import lessons
from vidpref.stages.online.training import fresh_drawing
from vidpref.stages.own_answers import phases
from vidpref.stages.planning import plan_section, trained_sections
from vidpref.stages.rows.shapes import RowShape, abstract_batch
from vidpref.training.sharding import abstract_params, batch_sharding, filled_up
from vidpref.typing import PyTree

ON_ONE_HOST = ("score", "ask")  # of a run, where every host asks about clips of its own


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function of a run, and what it is given.

    Attributes:
        apply: the function.
        arguments: by name, in their order, as `jax.ShapeDtypeStruct`s with shardings.
    """

    apply: jax.stages.Wrapped
    arguments: dict[str, PyTree]

    def trace(self) -> jax.stages.Traced:
        """Returns the function, traced for its arguments."""
        return self.apply.trace(*self.arguments.values())


def programs(config: ConfigDict, mesh: Mesh) -> dict[str, Callable[[], Program]]:
    """Returns {name: what makes it}: the training steps, and how clips are encoded and drawn.

    Names are those of `trained_sections`, and "draw" where an alignment draws its own clips,
    "encode", "sample", "decode", "sample-superres" where the config has them, "text" where the text
    encoder is a network, "judge" where a judge is trained, "draw-reasoning" and "judge-reasoning"
    (so "hierarchy") where it draws answers and learns from them, "score" where a network scores and
    "ask" where one answers. What the folder of the text encoder, or of a judge, would say is that
    of published ones where none is given. Of launch/train_judge.py's configs the judge's are all.

    Args:
        config: the whole config.
        mesh: devices.
    """
    if judge_programs.is_judge(config):
        found = _judge_training(config, mesh)
        if config.judge.name == SCORES:
            found["score"] = lambda: Program(*judge_programs.scoring_of_stage(config, mesh))
        return found
    found = {
        section: lambda section=section: _step(config, section, mesh)
        for section in trained_sections(config)
    }
    base = build_base(config)
    if config.align.rows in FRESH_ROWS:
        found["draw"] = lambda: _fresh(config, mesh)
    found["sample"] = lambda: _drawing(base, _seen_by(base, config, mesh), mesh)
    if backbone(config.model.name).latents:
        decoder = Decoder(build_autoencoder(config.model))
        clips = jax.ShapeDtypeStruct(
            (filled_up(config.sampler.batch_size, mesh), *base.clip_shape),
            jnp.float32,
            sharding=batch_sharding(mesh),
        )
        first_frames = base.image == "image_latent"
        found["encode"] = lambda: _encoding(decoder, config, mesh, first_frames=first_frames)
        found["decode"] = lambda: _drawing(decoder, {"latent": clips}, mesh)
    if config.superres.enabled:
        large = build_superres(config)
        found["sample-superres"] = lambda: _drawing(large, _seen_by(large, config, mesh), mesh)
    if config.text.name != "words":
        found["text"] = lambda: _text(config, mesh)
    found |= _judge_training(config, mesh)
    if config.reward.name == SCORES:
        found["score"] = lambda: Program(*judge_programs.scoring_of_clips(config, mesh))
    if config.reward.name == ANSWERS:
        found["ask"] = lambda: Program(*answer_programs.asking_about_clips(config, mesh))
    return found


def _judge_training(config: ConfigDict, mesh: Mesh) -> dict[str, Callable[[], Program]]:
    if config.judge.name == SCORES:
        return {"judge": lambda: Program(*judge_programs.training_step(config, mesh))}
    if config.judge.name != ANSWERS:
        return {}
    found = {}
    for name, told in lessons(config).items():
        found[name] = lambda told=told: Program(*answer_programs.instruction_step(told, mesh))
    for name in phases(config):
        found[f"draw-{name}"] = lambda name=name: Program(
            *answer_programs.drawing_of_answers(config, name, mesh)
        )
        found[f"judge-{name}"] = lambda name=name: Program(
            *answer_programs.step_on_answers(config, name, mesh)
        )
    return found


def _step(config: ConfigDict, section: str, mesh: Mesh) -> Program:
    planned = plan_section(config, section, mesh)
    plan = planned.training.plan
    arguments = {"state": plan.state, "frozen": planned.frozen, "batch": planned.batch}
    return Program(plan.step, arguments)


def _fresh(config: ConfigDict, mesh: Mesh) -> Program:
    planned = plan_section(config, "align", mesh)
    training = planned.training
    arguments = {"state": training.plan.state, "frozen": planned.frozen, "scenes": planned.scenes}
    return Program(fresh_drawing(config, build_base(config), training), arguments)


def _text(config: ConfigDict, mesh: Mesh) -> Program:
    module = text_module(config.text)
    shape, sharding = (rows_at_once(mesh), config.text.length), batch_sharding(mesh)
    tokens, mask = (jax.ShapeDtypeStruct(shape, t, sharding=sharding) for t in (jnp.int32, bool))
    params = abstract_text_params(module, config.text, mesh)
    return Program(encoding_text(module, mesh), {"params": params, "tokens": tokens, "mask": mask})


def _encoding(decoder: Decoder, config: ConfigDict, mesh: Mesh, *, first_frames: bool) -> Program:
    """Of clips in the largest bucket, with their first frames for image-to-video."""
    data, sharding = config.data, batch_sharding(mesh)
    sizes = [tuple(size) for size in data.buckets] or [(data.height, data.width)]
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    rows = filled_up(data.encode_batch, mesh)

    def struct(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharding)

    params = _params(decoder, mesh)
    images, image_params, prepared = None, None, {}
    if first_frames:
        vision = build_image_encoder(config.model)
        images, image_params = (FirstFrames(decoder, vision), None), {"autoencoder": params}
        prepared["frames"] = struct(jnp.uint8, height, width, 3)
        if vision is not None:
            image_params["vision"] = abstract_vision_params(vision, mesh)
            prepared["pixels"] = struct(jnp.float32, vision.image_size, vision.image_size, 3)
    arguments = {
        "params": params,
        "images": image_params,
        "clips": struct(jnp.uint8, data.frames, height, width, 3),
        "first_frames": prepared,
    }
    return Program(encoding(decoder, images, mesh), arguments)


def _drawing(network: DrawsClips, batch: PyTree, mesh: Mesh) -> Program:
    rows = jax.tree.leaves(batch)[0].shape[0]
    keys = jax.ShapeDtypeStruct((rows, 2), jnp.uint32, sharding=batch_sharding(mesh))
    arguments = {"params": _params(network, mesh), "keys": keys, "batch": batch}
    return Program(drawing(network, mesh), arguments)


def _seen_by(generator: Any, config: ConfigDict, mesh: Mesh) -> dict:
    """What a generator's clips are drawn from, without clips and rewards."""
    network = backbone(config.model.name)
    batch = abstract_batch(
        RowShape(1),
        generator,
        filled_up(config.sampler.batch_size, mesh),
        mesh,
        text_dtype="float32" if config.text.name == "words" else config.text.dtype,
        null_text=network.null_text == "words",
        image_steps=build_autoencoder(config.model).image_steps if network.latents else None,
    )
    return {name: value for name, value in batch.items() if name not in ("clips", "reward")}


def _params(network: Any, mesh: Mesh) -> PyTree:
    return abstract_params(jax.eval_shape(network.init, jax.random.key(0)), mesh)
