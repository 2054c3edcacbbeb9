"""The whole way of a clip: data -> pretrain -> (sample -> label -> align) x rounds -> evaluate."""

import dataclasses
import math
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.registry import PORTED
from vidpref.stages import align, guidance, label, preferences, rows
from vidpref.stages.autoencoder import build_autoencoder, latent_shape
from vidpref.stages.configs import read_config
from vidpref.stages.generator import Generator, build_base
from vidpref.stages.recipe import PRETRAINED, Labelled, Policy, Recipe, policy_name
from vidpref.stages.runner import say
from vidpref.stages.text_encoders import check_text
from vidpref.training.loop import check_config
from vidpref.training.sharding import BATCH_AXES


def run(config: ConfigDict, workdir: Path) -> tuple[Recipe, dict[str, Labelled]]:
    """Runs every stage of a config, from data to labelled evaluation clips.

    Returns:
        The recipe with its artifacts, and the evaluation clips of each policy by its name.
    """
    check(config)
    say(_header(config))
    recipe = Recipe(config, workdir, heading=f"{{n}}/{count_stages(config)}")
    check_training(config, recipe.mesh)
    return recipe, run_rounds(recipe, config.rounds)


def run_rounds(recipe: Recipe, rounds: int) -> dict[str, Labelled]:
    """Aligns `rounds` times, each round from the policy of the one before.

    Returns:
        The labelled evaluation clips of each policy by its name, the pre-trained one first.
    """
    policies = align_rounds(recipe, rounds)
    return {name: recipe.evaluation_samples(policy, name) for name, policy in policies.items()}


def align_rounds(recipe: Recipe, rounds: int) -> dict[str, Policy]:
    """Returns the policy of every round by its name, the pre-trained one first."""
    policies = {PRETRAINED: recipe.pretrained}
    for round_ in range(1, rounds + 1):
        name, policy = list(policies.items())[-1]
        policies[policy_name(recipe.config, round_)] = recipe.align(policy, name, round_)
    return policies


def open_finished(workdir: Path, mesh: dict[str, int]) -> tuple[Recipe, dict[str, Policy]]:
    """Returns the recipe of a finished run and its policies; nothing is computed.

    Args:
        workdir: of `launch/tpu_run.py`.
        mesh: the devices of this program, which need not be those of the run.

    Raises:
        ValueError: the folder holds no finished run.
    """
    config = read_config(workdir)
    with config.unlocked():
        config.mesh = ConfigDict(mesh)
    recipe = Recipe(config, workdir, only_finished=True)
    return recipe, align_rounds(recipe, config.rounds)


def check(config: ConfigDict, rounds: int = 0) -> None:
    """Refuses a config that cannot work, before anything is computed.

    Args:
        config: of a run.
        rounds: of it; 0 takes `config.rounds`.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    section = config.align
    _check_sources(config)
    if section.method == guidance.METHOD:
        guidance.check(section)
        if (rounds or config.rounds) > 1:
            raise ValueError("align.method=nrg trains no generator: there is no second round")
        needed = tuple(section.dimensions)
    else:
        generator = build_base(config)
        _check_sizes(config, generator)
        align.check(section, generator)
        needed = rows.judged_dimensions(section)
    if config.reward.name == label.NO_JUDGE:
        if needed:
            raise ValueError(
                "config.reward.name='none': config.align learns from clips that a judge scored"
            )
        if section.get("train", {}).get("best_metric"):
            raise ValueError("config.align.train.best_metric needs a judge, config.reward has none")
        return
    judge = label.build_reward(config.reward)
    for dimension in needed:
        if dimension not in judge.dimensions:
            raise ValueError(
                f"config.align needs scores of {dimension!r}, the judge of config.reward gives "
                + ", ".join(judge.dimensions)
            )


def check_training(config: ConfigDict, mesh: Mesh) -> None:
    """Refuses settings of any training or sampling of a run that do not suit the mesh.

    Raises:
        ValueError: names the stage and the field.
    """
    sections = {"align": config.align}
    if not config.model.get("init"):
        sections["pretrain"] = config.pretrain
    if config.superres.enabled:
        sections["superres"] = config.superres
    for name, section in sections.items():
        check_config(section.train, mesh, name)
    sizes = {"sampler.batch_size": config.sampler.batch_size}
    if config.data.name == preferences.NAME:
        sizes["data.encode_batch"] = config.data.encode_batch
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    for field, size in sizes.items():
        if size < 1 or size % shards:
            raise ValueError(
                f"config.{field}={size}: must be a multiple of {shards}, the devices over which "
                "rows are divided (config.mesh.data times fsdp)"
            )


def _check_sources(config: ConfigDict) -> None:
    """Refuses data, text or a pipeline that are not there or do not belong together."""
    if config.model.name in PORTED:
        if not config.model.init:
            raise ValueError(
                f"config.model.init is empty: a {config.model.name} generator starts from the "
                "folder of a diffusers pipeline, --config.model.init=DIR"
            )
        PipelineFolder(config.model.init)
    check_text(config.text)
    from_file = config.data.name == preferences.NAME
    if from_file:
        mixed = config.align.get("real_weight", 0.0) > 0
        preferences.check_preferences(config.data, with_real=mixed)
    if from_file != (config.model.name in PORTED):
        raise ValueError(
            f"config.data.name={config.data.name!r} with config.model.name={config.model.name!r}: "
            "generators of latents learn from 'preferences', the others from the other data sets"
        )
    if config.align.method == guidance.METHOD:
        if from_file:
            raise ValueError("align.method=nrg learns from samples in pixels, not from a file")
    elif rows.kind_of(config.align).file and not from_file:
        raise ValueError(f"config.align.rows={config.align.rows!r} needs a file of preferences")
    buckets = config.data.get("buckets", ())
    if len(buckets) > 1 and config.align.get("real_weight", 0.0) > 0:
        raise ValueError(
            "config.data.buckets: real clips go through the network with others of one size; give "
            "one bucket, or set config.align.real_weight=0"
        )


def _check_sizes(config: ConfigDict, generator: Generator) -> None:
    """Refuses sizes of clips that the networks of latents cannot take."""
    if not generator.latent:
        return
    data = config.data
    drawn, buckets = (data.height, data.width), [tuple(size) for size in data.buckets]
    if generator.image == "image_latent" and any(size != drawn for size in buckets):
        raise ValueError(
            "config.data.buckets: clips are drawn from first frames of encoded ones, so all must "
            f"have config.data.height and width, {drawn[0]}x{drawn[1]}; set it to ()"
        )
    autoencoder = build_autoencoder(config.model)
    for height, width in {drawn, *buckets}:
        clip_shape = latent_shape(autoencoder, data.frames, height, width)
        sized = dataclasses.replace(generator, clip_shape=clip_shape)
        try:
            jax.eval_shape(sized.init, jax.random.key(0))
        except ValueError as error:
            raise ValueError(
                f"config.data: the network takes no clips of {height}x{width}: {error}"
            ) from error


def count_stages(config: ConfigDict) -> int:
    """How many stages a run has."""
    first = 3 + config.superres.enabled  # data, text, pretrain or import
    first += config.data.name == preferences.NAME  # latents
    each = 3 if config.align.method == guidance.METHOD else 1
    if config.align.method != guidance.METHOD:
        kind = rows.kind_of(config.align)
        each += 2 * kind.labels + kind.losers
    judged = config.reward.name != label.NO_JUDGE
    return first + each * config.rounds + (1 + judged) * (config.rounds + 1)


def _header(config: ConfigDict) -> str:
    """What runs, where, and the scale of beta, which means nothing without its reduction."""
    section = config.align
    if section.method == guidance.METHOD:
        shown = {"scale": section.scale, **section.weights}
    else:
        shown = {**align.hyper_parameters(section), "reduction": section.reduction}
    settings = ", ".join(f"{name}={value}" for name, value in shown.items())
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    expected = f"; {config.expected_time}" if config.expected_time else ""
    return (
        f"{config.name}:{config.scale}: {section.method} with {settings}, "
        f"{config.rounds} round(s), on {devices}{expected}"
    )
