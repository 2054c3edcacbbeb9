"""The clips of an on-policy alignment, drawn and judged with what a recipe has."""

import contextlib
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh

from vidpref.generation.cascade import DrawsClips, drawing
from vidpref.rewards.registry import build_reward, verifying
from vidpref.runs.recipe import Recipe
from vidpref.stages.online.judging import GroupJudge
from vidpref.stages.online.training import fresh_rollout
from vidpref.stages.rows.fresh import SceneRows
from vidpref.stages.train import Training
from vidpref.training.rollouts import Rollout
from vidpref.training.sharding import batch_sharding
from vidpref.typing import Array, PyTree


@contextlib.contextmanager
def fresh_clips(recipe: Recipe, training: Training) -> Iterator[Callable[[SceneRows], Rollout]]:
    """Yields what makes the rollout of rows; the judge and the decoder are loaded meanwhile.

    Args:
        recipe: where the generator, the judge and the decoder are from; their stages are done.
        training: the run.
    """
    decode = None
    if recipe.generator.latent:
        decoder = recipe.inputs.decoder
        decode = _decoding(decoder.network, decoder.load(), recipe.mesh)
    judge = build_reward(recipe.judged, recipe.judge_folders)
    watch = None
    if recipe.config.align.online.watch:
        watch = build_reward(verifying(recipe.config.reward))

    def rollout(rows: SceneRows) -> Rollout:
        asked = GroupJudge(
            judge, recipe.judged, rows.scenes, recipe.mesh, watch, recipe.given, decode
        )
        return fresh_rollout(recipe.config, recipe.generator, training, asked)

    yield rollout


def _decoding(network: DrawsClips, params: PyTree, mesh: Mesh) -> Callable[[Array], Array]:
    """What makes pixels of latents; nothing is drawn, so that keys are all alike."""
    draw = drawing(network, mesh)

    def decode(latents: Array) -> Array:
        keys = jax.device_put(jax.numpy.zeros((len(latents), 2), "uint32"), batch_sharding(mesh))
        return draw(params, keys, {"latent": latents})[0]

    return decode
