"""A policy draws a group of clips for every prompt of a batch."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vidpref.diffusion.stochastic import StepNoise, stochastic_sample
from vidpref.generation.generator import Generator
from vidpref.pixels import clip_to_unit, not_finite, to_bytes
from vidpref.training.rollouts import Prepare
from vidpref.typing import Array, PyTree


def window_start(noise: StepNoise, steps: int, every: int) -> Callable[[Array], Array]:
    """Returns `number of the drawing, from 0 -> first random step` of a window that slides.

    Args:
        noise: the window and where it may lie.
        steps: of a chain.
        every: drawings after which it moves on by a step; behind the last it begins anew (MixGRPO,
            arXiv 2507.21802).
    """
    starts = noise.starts(steps)

    def start(drawing: Array) -> Array:
        return starts[0] + (drawing // every) % len(starts)

    return start


def group_drawing(
    generator: Generator,
    group: int,
    noise: StepNoise | None,
    start: Callable[[Array], Array] | None = None,
) -> Prepare:
    """Returns the `prepare` of a rollout that adds clips to a batch of scenes.

    It adds `clips` [b, g, t, h, w, c] (uint8 pixels as the judge sees them, or latents),
    `not_finite` [b, g], how many values of each are NaN or infinite, and with random steps their
    `states` [b, g, n + 1, t, h, w, c] and `log_probs` [b, g, n], and of a window that slides
    `first_step` [b]. The g clips of a prompt are drawn one after the other: memory is that of b
    clips.

    Args:
        generator: whose clips are drawn, by its own sampler without `noise`.
        group: clips of a prompt, g.
        noise: for steps that are random and have probabilities.
        start: `step of the training, from 0 -> first random step`, where that moves.
    """

    def prepare(
        policy: PyTree, frozen: PyTree, batch: Mapping[str, Array], key: Array, step: Array
    ) -> PyTree:
        first = None if start is None else start(step)
        seen = {name: value for name, value in batch.items() if name != "real"}
        rows = jnp.arange(len(batch["scene"]))

        def draw(_: None, number: Array) -> tuple[None, dict[str, Array]]:
            of_number = jax.random.fold_in(key, number)
            keys = jax.vmap(lambda row: jax.random.fold_in(of_number, row))(rows)
            return None, _one_each(generator, noise, first, policy, keys, seen)

        _, drawn = jax.lax.scan(draw, None, jnp.arange(group))
        drawn = {name: jnp.moveaxis(x, 0, 1) for name, x in drawn.items()}
        if first is not None:
            drawn["first_step"] = jnp.broadcast_to(first.astype(jnp.int32), rows.shape)
        return {**batch, **drawn}

    return prepare


def _one_each(
    generator: Generator,
    noise: StepNoise | None,
    start: Array | None,
    policy: PyTree,
    keys: Array,
    seen: Mapping,
) -> dict[str, Array]:
    """One clip of every prompt."""
    if noise is None:
        clips, drawn = generator.sample(policy, keys, seen), {}
    else:
        found = stochastic_sample(generator.chain(policy, keys, seen), noise, start)
        clips = found.clips if generator.latent else clip_to_unit(found.clips)
        drawn = {"states": found.states, "log_probs": found.log_probs}
    bad = not_finite(clips)
    return drawn | {"clips": clips if generator.latent else to_bytes(clips), "not_finite": bad}
