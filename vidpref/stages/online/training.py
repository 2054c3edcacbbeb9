"""Training on fresh clips: what is trained, and the rollout that makes its batches."""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.online import FROM_ADVANTAGES, TRAJECTORIES
from vidpref.config.training import loop_settings
from vidpref.datasets.preferences.selection import MOTION
from vidpref.diffusion.stochastic import StepNoise
from vidpref.generation.generator import Generator
from vidpref.losses.alignment import AlignmentLoss
from vidpref.losses.trajectories import TrajectoryLoss
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.objectives.policy_gradient import AdvantageRule, PolicyGradient
from vidpref.stages.online import backpropagation
from vidpref.stages.online.drawing import group_drawing, window_start
from vidpref.stages.online.groups import Learnt, clip_rows, trajectories
from vidpref.stages.online.judging import GroupJudge
from vidpref.stages.online.watching import Watch
from vidpref.stages.rows.sampled import counting_weights, judged_dimensions
from vidpref.stages.rows.shapes import RowShape
from vidpref.stages.train import ErrorSettings, Training, generator_loss
from vidpref.training.plan import make_plan
from vidpref.training.processes import share_of
from vidpref.training.rollouts import Draw, Prepare, Rollout, make_rollout
from vidpref.training.sharding import batch_sharding, replicated
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, PyTree


def step_noise(section: ConfigDict) -> StepNoise | None:
    """Returns how the sampler's steps are random; None where the method asks for no probabilities.

    Args:
        section: the config's `align` section.

    Raises:
        ValueError: a noise that cannot be.
    """
    if section.method != TRAJECTORIES:
        return None
    online = section.online
    window = tuple(online.window)
    return StepNoise(online.noise, float(online.level), window, slides=online.slide > 0)


def reward_weights(section: ConfigDict, dimension: str) -> dict[str, float]:
    """Returns the weight of each score in the reward: of the judge's own where none is named.

    Args:
        section: the config's `align` section.
        dimension: the judge's own score, `config.reward.dimension`.
    """
    return counting_weights(section) or {dimension: 1.0}


def rule(section: ConfigDict) -> PolicyGradient:
    """Returns the policy gradient of an `align` section.

    Raises:
        ValueError: a value that cannot be.
    """
    online = section.online
    return PolicyGradient(
        clip_low=float(online.clip), divergence="exact", kl_coefficient=float(online.kl)
    )


def trajectory_training(
    config: ConfigDict,
    generator: Generator,
    timed: Generator,
    tuning: Tuning,
    mesh: Mesh,
    *,
    name: str,
) -> Training:
    """Returns the training of Flow-GRPO and its relatives.

    Args:
        config: the whole config.
        generator: whose sampler draws.
        timed: the same with the training times of the data term.
        tuning: what of it is trained.
        mesh: devices.
        name: name of the run, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    section, real = config.align, data_term(config, timed, tuning)

    def chain(params: PyTree, batch: Mapping) -> PyTree:
        rows = len(batch["log_probs"])
        return generator.chain(params, jax.random.split(jax.random.key(0), rows), batch)

    loss = TrajectoryLoss(
        chain,
        step_noise(section),
        rule(section),
        tuning,
        updates=section.online.updates,
        real=real,
        real_weight=float(section.real_weight),
    )
    return Training(
        make_plan(tuning, loss, loop_settings(section.train), mesh, name=name),
        section,
        generator,
        RowShape(1, real=real is not None),
        needs_reference=section.online.kl > 0,
    )


def data_term(config: ConfigDict, timed: Generator, tuning: Tuning) -> AlignmentLoss | None:
    """Returns the error on real clips that a loss is held to data by; None where none is asked for.

    Args:
        config: the whole config.
        timed: the generator with the training times of the term.
        tuning: what of it is trained.
    """
    section = config.align
    if not section.real_weight:
        return None
    errors = ErrorSettings(section.error_in or config.diffusion.error_in, section.reduction)
    return generator_loss(timed, "sft", {}, errors, tuning)


def learnt_from(config: ConfigDict) -> Learnt:
    """Returns what makes the batch of a step of judged groups."""
    section = config.align
    weights = reward_weights(section, config.reward.dimension)
    online = section.online
    how = AdvantageRule(online.group, online.scale, online.order, float(online.largest))
    if section.method == TRAJECTORIES:
        return trajectories(weights, how)
    if section.method in FROM_ADVANTAGES:
        return clip_rows(section.rows, weights, advantages=how)
    motion = MOTION if OBJECTIVES[section.method].needs_motion else ()
    return clip_rows(section.rows, weights, normalize=section.normalize_reward, motion=motion)


def fresh_drawing(config: ConfigDict, generator: Generator, training: Training) -> Draw:
    """Returns the compiled `draw(state, frozen, scenes) -> drawn`.

    See `group_drawing`, and `state_drawing` where a judge is part of the loss.

    Args:
        config: the whole config.
        generator: whose sampler draws.
        training: the run.
    """
    section, prepare = config.align, _prepare(config, generator, training)
    # the old policy, which DiffusionNFT learns from; of the others the two are the same here
    by_reference = section.method in FROM_ADVANTAGES
    return make_rollout(prepare, training.plan, by_reference=by_reference)


def fresh_rollout(
    config: ConfigDict,
    generator: Generator,
    training: Training,
    judge: GroupJudge | None,
    folder: Path,
) -> Rollout:
    """Returns what draws and judges the clips that a step learns from.

    Args:
        config: the whole config.
        generator: whose sampler draws.
        training: the run.
        judge: of the drawn clips; where one is part of the loss, the verifier that watches it, or
            None.
        folder: of the stage, for what a watch notes.
    """
    plan, online = training.plan, config.align.online
    stops, steps = online.on_fall == "stop", plan.settings.steps
    watch = Watch(online.fall, folder, stops=stops, steps=steps)
    draw, rows = fresh_drawing(config, generator, training), batch_sharding(plan.mesh)
    if training.judge is not None:
        return backpropagation.gradient_rollout(draw, training, judge, watch)
    learn = jax.jit(
        learnt_from(config), in_shardings=rows, out_shardings=(rows, replicated(plan.mesh))
    )
    weights = reward_weights(config.align, config.reward.dimension)

    def then(drawn: PyTree, step: int) -> tuple[PyTree, dict]:
        found = judge(drawn, step)
        scores = {name: x for name, x in found.items() if "/" not in name}
        beside = {name: float(np.nanmean(x)) for name, x in found.items() if "/" in name}
        share = share_of(rows, len(drawn["scene"]))
        placed = share.place({name: x[share.held] for name, x in scores.items()})
        batch, metrics = learn(drawn, placed)
        if "truth/accept" in beside:
            reward = sum(w * float(np.nanmean(scores[name])) for name, w in weights.items())
            if said := watch.at(step, reward, beside["truth/accept"]):
                logging.warning("%s: %s", plan.name, said)
        return batch, metrics | beside

    return Rollout(draw, then, online.updates, lambda: watch.ended)


def abstract_step_batch(
    config: ConfigDict, generator: Generator, training: Training, frozen: PyTree, scenes: PyTree
) -> PyTree:
    """Returns the global batch of a step in shapes, as `fresh_rollout` would make it.

    Args:
        config, generator, training: as for `fresh_rollout`.
        frozen: what the loss needs besides, in shapes.
        scenes: the batch of scenes, in shapes.
    """
    online, plan = config.align.online, training.plan
    prepare = _prepare(config, generator, training)
    weights = reward_weights(config.align, config.reward.dimension)
    names = dict.fromkeys([*weights, *judged_dimensions(config.align), *config.reward.dimensions])

    def made(state: PyTree, frozen: PyTree, batch: PyTree) -> PyTree:
        policy = plan.tuning.policy(state.params, frozen, None)
        drawn = prepare(policy, frozen, batch, state.key, state.step)
        if training.judge is not None:
            return backpropagation.learnt_from(drawn)
        scores = {name: drawn["not_finite"].astype("float32") for name in names}
        batch, _ = learnt_from(config)(drawn, scores)
        return jax.tree.map(lambda x: x[:: online.updates], batch)

    struct = functools.partial(jax.ShapeDtypeStruct, sharding=batch_sharding(plan.mesh))
    shapes = jax.eval_shape(made, plan.state, frozen, scenes)
    return jax.tree.map(lambda x: struct(x.shape, x.dtype), shapes)


def _prepare(config: ConfigDict, generator: Generator, training: Training) -> Prepare:
    """What draws the groups of a batch of scenes, or brings them to a state."""
    if training.judge is not None:
        return backpropagation.state_drawing(config, generator, training.judge.loss)
    online, noise = config.align.online, step_noise(config.align)
    start = None
    if noise is not None and noise.slides:
        of_drawing = window_start(noise, generator.sampler.steps, online.slide)

        def start(step: Array) -> Array:
            return of_drawing(step // online.updates)

    return group_drawing(generator, online.group, noise, start)
