"""Training on the gradient of a reward: PRFL and VADER, their drawings and their rollout."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.online import LATENT
from vidpref.config.training import loop_settings
from vidpref.diffusion.samplers import Chain, still_step
from vidpref.generation.generator import Generator
from vidpref.generation.guided import build_reward_model, reward_init
from vidpref.losses.alignment import AlignmentLoss
from vidpref.losses.reward_gradient import RewardGradientLoss
from vidpref.models.lora import apply_network
from vidpref.pixels import clip_to_unit, not_finite, to_bytes
from vidpref.stages.online.judging import GroupJudge
from vidpref.stages.online.pixel_judge import PixelJudge, check_pixel_judge
from vidpref.stages.online.watching import Watch
from vidpref.stages.rows.sampled import counting_weights
from vidpref.stages.rows.shapes import RowShape
from vidpref.stages.train import JudgeInside, Training
from vidpref.training.plan import make_plan
from vidpref.training.rollouts import Draw, Prepare, Rollout
from vidpref.training.sharding import abstract_params, batch_sharding, replicated
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, PyTree

PROXY = "proxy"  # the reward of a drawn clip, beside it where a watch looks
_NOT_SEEN = ("clips", "not_finite", PROXY)
_FIRST = np.uint32(2**31)  # no row of a batch has this number


def latent_weights(section: ConfigDict) -> dict[str, float]:
    """Returns the weight of each dimension of the latent reward, in their order.

    Args:
        section: the config's `align` section.

    Raises:
        ValueError: a weight of none of them, or none that counts.
    """
    names, wanted = tuple(section.dimensions), counting_weights(section)
    for name in wanted:
        if name not in names:
            raise ValueError(
                f"config.align.reward.{name}: the latent reward scores config.align.dimensions="
                f"{names}; add it there, or set the weight to 0"
            )
    if not wanted:
        raise ValueError(
            f"config.align.reward: no dimension of {names} has a weight, so there is no reward"
        )
    return {name: wanted.get(name, 0.0) for name in names}


def check(config: ConfigDict, generator: Generator) -> None:
    """Refuses a training on gradients that cannot work, before anything is computed.

    Raises:
        ValueError: names the field.
    """
    section, steps = config.align, generator.sampler.steps
    if section.method != LATENT:
        check_pixel_judge(config, generator)
        return
    latent_weights(section)
    if steps < 2:
        raise ValueError(
            f"config.sampler.steps={steps}: prfl judges noisy clips, and the last step leads to a "
            "clean one; 2 or more"
        )


def gradient_training(
    config: ConfigDict,
    generator: Generator,
    tuning: Tuning,
    mesh: Mesh,
    *,
    real: AlignmentLoss | None,
    judge: PixelJudge | None,
    name: str,
) -> Training:
    """Returns the training of PRFL or VADER.

    Args:
        config: the whole config.
        generator: whose sampler draws.
        tuning: what of it is trained.
        mesh: devices.
        real: the data term.
        judge: of pixels; None for PRFL's, which is made of the generator.
        name: name of the run, in messages.

    Raises:
        ValueError: a setting that cannot work.
    """
    section = config.align
    loss = gradient_loss(config, generator, tuning, real=real, judge=judge)
    if judge is None:
        init = reward_init(generator, section)
        shapes = jax.eval_shape(init, jax.random.key(0))
        inside = JudgeInside(loss, functools.partial(abstract_params, shapes), {})
    else:
        inside = JudgeInside(loss, judge.abstract, judge.row_shapes)
    return Training(
        make_plan(tuning, loss, loop_settings(section.train), mesh, name=name),
        section,
        generator,
        RowShape(1, real=real is not None),
        judge=inside,
    )


def gradient_loss(
    config: ConfigDict,
    generator: Generator,
    tuning: Tuning,
    *,
    real: AlignmentLoss | None = None,
    judge: PixelJudge | None = None,
) -> RewardGradientLoss:
    """Returns the loss of `gradient_training`; arguments as there."""
    section = config.align

    def chain(params: PyTree, batch: Mapping[str, Any]) -> Chain:
        keys = jax.random.split(jax.random.key(0), len(batch["first_step"]))
        return generator.chain(params, keys, dict(batch))

    if judge is None:
        module, weights = build_reward_model(generator, section), latent_weights(section)

        def reward(params: PyTree, state: Array, tau: Array, batch: Mapping[str, Any]) -> Array:
            return apply_network(module, params, state, tau, generator.condition(batch))

    else:
        reward, own = judge.reward, config.reward
        wanted = counting_weights(section) or {own.dimension: 1.0}
        weights = judge.weights(wanted, own.video_reward.overall)
    return RewardGradientLoss(
        chain,
        1 if judge is None else int(section.online.last),
        reward,
        weights,
        tuning,
        target=float(section.online.target),
        real=real,
        real_weight=float(section.real_weight),
    )


def state_drawing(config: ConfigDict, generator: Generator, loss: RewardGradientLoss) -> Prepare:
    """Returns the `prepare` of a rollout that brings every prompt of a batch to a noisy state.

    It adds `state` [b, t, h, w, c] and `first_step` [b], where the steps begin that the loss makes:
    VADER's are the sampler's last, PRFL's is any but the last, drawn alike for all rows. With
    `align.online.watch` the chain goes on, and there are besides `clips` [b, 1, t, h, w, c] as
    `group_drawing` gives them, `not_finite` [b, 1], and `proxy` [b], the mean reward of these
    clips: of clean ones, or for PRFL of the last noisy state.

    Args:
        config: the whole config.
        generator: whose sampler draws.
        loss: which judges.
    """
    section, steps = config.align, generator.sampler.steps
    latent, watched = section.method == LATENT, bool(section.online.watch)

    def prepare(
        policy: PyTree, frozen: PyTree, batch: Mapping[str, Array], key: Array, step: Array
    ) -> PyTree:
        rows = jnp.arange(len(batch["scene"]))
        seen = {name: value for name, value in batch.items() if name != "real"}
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        chain = generator.chain(policy, keys, seen)
        if latent:
            first = jax.random.randint(jax.random.fold_in(key, _FIRST), (), 0, steps - 1)
        else:
            first = jnp.int32(steps - section.online.last)

        def go(index: Array, x: Array) -> Array:
            return still_step(chain, x, index)

        state = jax.lax.fori_loop(0, first, go, chain.noise)
        drawn = {"state": state, "first_step": jnp.broadcast_to(first, rows.shape)}
        if watched:
            last = jax.lax.fori_loop(first, steps - 1, go, state)
            clips = go(jnp.int32(steps - 1), last)
            judged, tau = (last, chain.times[-2]) if latent else (clips, 0.0)
            proxy, _ = loss.judged(frozen, judged, jnp.float32(tau), seen)
            clips = clips if generator.latent else clip_to_unit(clips)
            bad = not_finite(clips)[:, None]
            shown = (clips if generator.latent else to_bytes(clips))[:, None]
            mean = jnp.broadcast_to(proxy.mean(), rows.shape)
            drawn |= {"clips": shown, "not_finite": bad, PROXY: mean}
        return {**batch, **drawn}

    return prepare


def gradient_rollout(
    draw: Draw, training: Training, verifier: GroupJudge | None, watch: Watch
) -> Rollout:
    """Returns what brings prompts to the states that a step learns from.

    Args:
        draw: from `make_rollout` of `state_drawing`.
        training: the run.
        verifier: to whom the drawn clips are shown; None for nobody.
        watch: over what it says.
    """
    plan = training.plan
    if verifier is None:
        return Rollout(draw)
    rows = batch_sharding(plan.mesh)
    split = jax.jit(
        lambda drawn: (learnt_from(drawn), drawn[PROXY][0]),
        in_shardings=rows,
        out_shardings=(rows, replicated(plan.mesh)),
    )

    def then(drawn: PyTree, step: int) -> tuple[PyTree, dict[str, Any]]:
        means = {name: float(np.nanmean(x)) for name, x in verifier(drawn, step).items()}
        told = {name if "/" in name else f"truth/{name}": x for name, x in means.items()}
        batch, proxy = split(drawn)
        if said := watch.at(step, float(proxy), told["truth/accept"]):
            logging.warning("%s: %s", plan.name, said)
        return batch, told | {PROXY: proxy}

    return Rollout(draw, then, ended=lambda: watch.ended)


def learnt_from(drawn: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Returns the batch of the loss, without what only a watch looks at."""
    return {name: x for name, x in drawn.items() if name not in _NOT_SEEN}
