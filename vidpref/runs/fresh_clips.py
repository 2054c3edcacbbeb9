"""The clips of an on-policy alignment, drawn and judged with what a recipe has."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from vidpref.datasets.scenes import Scene
from vidpref.generation.cascade import DrawsClips, drawing
from vidpref.generation.scene_conditions import SceneConditions
from vidpref.rewards.registry import JUDGE, build_reward, verifying
from vidpref.runs.recipe import Recipe
from vidpref.stages.online.judging import GroupJudge
from vidpref.stages.online.pixel_judge import PixelJudge
from vidpref.stages.online.training import fresh_rollout
from vidpref.stages.rows.fresh import SceneRows
from vidpref.stages.train import Training
from vidpref.training.rollouts import Rollout
from vidpref.training.sharding import batch_sharding
from vidpref.typing import Array, PyTree


@contextlib.contextmanager
def fresh_clips(
    recipe: Recipe, training: Training
) -> Iterator[Callable[[SceneRows, Path], Rollout]]:
    """Yields what makes the rollout of rows, in a stage's folder.

    The judge and the decoder are loaded meanwhile.

    Args:
        recipe: where the generator, the judge and the decoder are from; their stages are done.
        training: the run.
    """
    decode, inside = None, training.judge is not None
    watched = bool(recipe.config.align.online.watch)
    if recipe.generator.latent and (watched or not inside):
        decoder = recipe.inputs.decoder
        decode = _decoding(decoder.network, decoder.load(), recipe.mesh)
    judge = None if inside else build_reward(recipe.judged, recipe.judge_folders)
    truth = verifying(recipe.config.reward)
    watch = build_reward(truth) if watched else None

    def group_judge(scenes: Sequence[Scene]) -> GroupJudge | None:
        if not inside:
            return GroupJudge(
                judge, recipe.judged, scenes, recipe.mesh, watch, recipe.given, decode
            )
        if watch is None:
            return None
        return GroupJudge(watch, truth, scenes, recipe.mesh, None, recipe.given, decode)

    def rollout(rows: SceneRows, folder: Path) -> Rollout:
        asked = group_judge(rows.scenes)
        return fresh_rollout(recipe.config, recipe.generator, training, asked, folder)

    yield rollout


def judge_of_pixels(recipe: Recipe) -> PixelJudge:
    """Returns the judge of a run that learns from the gradient of a reward of pixels.

    Args:
        recipe: of the run; the stages that make its judge are done.
    """
    folder = recipe.judge_folders.get(JUDGE)
    return PixelJudge.of(recipe.config, recipe.generator, recipe.mesh, folder)


def load_judge(recipe: Recipe, judge: PixelJudge) -> PyTree:
    """Returns its parameters on the devices of the run, with those of the decoder it looks by."""
    decoder = recipe.inputs.decoder.load() if recipe.generator.latent else None
    return judge.load(recipe.mesh, decoder)


def seen_by_judge(recipe: Recipe, judge: PixelJudge) -> SceneConditions:
    """Returns what the generator sees of a scene, and beside it what the judge reads of its prompt.

    Raises:
        ValueError: a prompt that the judge cannot read.
    """
    prompts = [scene.text for scene in recipe.inputs.data.scenes("train", 0)]
    rows = judge.rows(prompts)
    return dataclasses.replace(recipe.seen, beside=lambda scene: rows[scene.text])


def _decoding(network: DrawsClips, params: PyTree, mesh: Mesh) -> Callable[[Array], Array]:
    """What makes pixels of latents; nothing is drawn, so that keys are all alike."""
    draw = drawing(network, mesh)

    def decode(latents: Array) -> Array:
        keys = jax.device_put(jax.numpy.zeros((len(latents), 2), "uint32"), batch_sharding(mesh))
        return draw(params, keys, {"latent": latents})[0]

    return decode
