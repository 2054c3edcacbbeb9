"""Refuses contradictory configs before anything is computed."""

import dataclasses
import math

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.schema import NO_JUDGE, PREFERENCES, check_values
from vidpref.config.training import loop_settings
from vidpref.generation.autoencoder import build_autoencoder, latent_shape
from vidpref.generation.generator import Generator, build_base
from vidpref.generation.text_encoders import check_text
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.registry import backbone
from vidpref.rewards.registry import check_reward, reward_spec, scoring
from vidpref.runs.methods import METHODS
from vidpref.stages import preferences
from vidpref.stages.planning import trained_sections
from vidpref.training.plan import check_config
from vidpref.training.sharding import BATCH_AXES


def check(config: ConfigDict, rounds: int = 0) -> None:
    """Refuses a config that cannot work, before anything is computed.

    Args:
        config: the config of a run.
        rounds: number of its rounds; 0 takes `config.rounds`.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    check_values(config)
    _check_sources(config)
    method, section = METHODS[config.align.method], config.align
    judged = config.reward.name != NO_JUDGE
    if not judged and method.needs_labels(config):
        raise ValueError(
            "config.reward.name='none': config.align learns from clips that a judge scored"
        )
    generator = build_base(config)
    _check_sizes(config, generator)
    generator.check_sampler()
    method.check(config, generator, rounds or config.rounds)
    if not judged:
        if section.train.best_metric:
            raise ValueError("config.align.train.best_metric needs a judge, config.reward has none")
        return
    judges = reward_spec(config.reward).data
    if judges not in ("", config.data.name):
        raise ValueError(
            f"config.reward.name={config.reward.name!r} judges {judges} alone, and config.data.name"
            f"={config.data.name!r}: use remote_judge, or none for a method that needs no scores"
        )
    scored = check_reward(scoring(config.reward, method.judged_dimensions(config)))
    for dimension in method.judged_dimensions(config):
        if dimension not in scored:
            raise ValueError(
                f"config.align needs scores of {dimension!r}, the judge of config.reward gives "
                + ", ".join(scored)
            )


def check_training(config: ConfigDict, mesh: Mesh) -> None:
    """Refuses settings of any training or sampling of a run that do not suit the mesh.

    Raises:
        ValueError: names the stage and the field.
    """
    for name in trained_sections(config):
        check_config(loop_settings(config[name].train), mesh, name)
    sizes = {"sampler.batch_size": config.sampler.batch_size}
    if config.data.name == PREFERENCES:
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
    network = backbone(config.model.name)
    if network.pretrained:
        if not config.model.init:
            raise ValueError(
                f"config.model.init is empty: a {config.model.name} generator starts from the "
                "folder of a diffusers pipeline, --config.model.init=DIR"
            )
        PipelineFolder(config.model.init)
    check_text(config.text)
    from_file = config.data.name == PREFERENCES
    if from_file:
        mixed = config.align.real_weight > 0
        preferences.check_preferences(config.data, with_real=mixed)
    if from_file != network.from_preferences:
        raise ValueError(
            f"config.data.name={config.data.name!r} with config.model.name={config.model.name!r}: "
            "generators of latents learn from 'preferences', the others from the other data sets"
        )
    buckets = config.data.buckets
    if len(buckets) > 1 and config.align.real_weight > 0:
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
