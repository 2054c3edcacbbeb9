"""Refuses contradictory configs before anything is computed."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.align import GUIDANCE
from vidpref.config.online import LATENT
from vidpref.config.schema import FIELDS, NO_JUDGE, PREFERENCES, check_values, counts_in
from vidpref.config.training import loop_settings
from vidpref.datasets.text import WordTable
from vidpref.generation.autoencoder import build_autoencoder, latent_shape
from vidpref.generation.generator import Generator, build_base, build_superres
from vidpref.generation.text_encoders import check_text
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.registry import backbone
from vidpref.rewards.registry import check_reward, reward_spec, scoring
from vidpref.runs.judge_checks import check_own
from vidpref.runs.methods import METHODS
from vidpref.runs.policies import PRETRAINED
from vidpref.runs.problems import Problems
from vidpref.stages import preferences
from vidpref.stages.data import check_data, known_prompts
from vidpref.stages.division import check_division
from vidpref.stages.planning import section_training, trained_sections
from vidpref.training.plan import check_config
from vidpref.training.wandb_runs import check_wandb

# A part of the names of folders; empty for that of the method.
_POLICY_NAME = re.compile(r"([^/\s.][^/\s]{0,119})?")


def check(config: ConfigDict, rounds: int = 0) -> None:
    """Refuses a config that cannot work, before anything is computed.

    Args:
        config: the config of a run.
        rounds: number of its rounds; 0 takes `config.rounds`.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    check_values(config)
    method = METHODS[config.align.method]
    problems = Problems()
    for part in (_check_pipeline, _check_data, _check_belonging, _check_judge, _check_policy_name):
        with problems.kept():
            part(config)
    with problems.kept():
        check_text(config.text)
    with problems.kept():
        check_wandb(config.wandb)
    problems.refuse()
    with problems.kept():
        _check_prompts(config)
    with problems.kept(), _of_the_networks_sizes():
        generator = build_base(config)
        _check_sizes(config, generator)
        generator.check_sampler()
        if config.align.method in (GUIDANCE, LATENT):
            _check_guide(config, generator)
        method.check(config, generator, rounds or config.rounds)
    if config.superres.enabled:
        with problems.kept(), _of_the_networks_sizes():
            _check_superres(config)
    problems.refuse()


def _check_judge(config: ConfigDict) -> None:
    """Refuses a judge that cannot be asked, or not for what the method and the tables need."""
    if config.judge.name:
        check_own(config)
    method = METHODS[config.align.method]
    best_metric = config.align.train.best_metric
    if config.reward.name == NO_JUDGE:
        if method.needs_labels(config):
            raise ValueError(
                "config.reward.name='none': config.align learns from clips that a judge scored"
            )
        if best_metric:
            raise ValueError("config.align.train.best_metric needs a judge, config.reward has none")
        return
    if best_metric.removeprefix("-") not in ("", "loss", config.reward.dimension):
        raise ValueError(
            f"config.align.train.best_metric={best_metric!r}: checkpoints are scored in config."
            f"reward.dimension={config.reward.dimension!r}; give that, or '-loss'"
        )
    key = config.reward.remote_judge.api_key_env
    if (
        config.reward.name == "remote_judge"
        and key not in ("", FIELDS["reward.remote_judge.api_key_env"].default)
        and key not in os.environ
    ):
        raise ValueError(
            f"config.reward.remote_judge.api_key_env={key!r}: there is no such environment variable"
        )
    per_prompt = config.label.per_prompt
    if method.needs_labels(config) and per_prompt < 2 and _pairs_clips(config):
        raise ValueError(
            f"config.label.per_prompt={per_prompt}: clips of a prompt are paired, so 2 at least"
        )
    if (
        reward_spec(config.reward).unit == "own"
        and method.needs_labels(config)
        and config.align.rows in ("pairs", "winners")
        and config.align.pairs == "accepted_rejected"
    ):
        raise ValueError(
            f"config.align.pairs='accepted_rejected': {config.reward.name} accepts and rejects "
            "nothing; pair the best with the worst, --config.align.pairs=best_worst"
        )
    if len(config.evaluate.best_of) not in (0, 2):
        raise ValueError(
            f"config.evaluate.best_of={tuple(config.evaluate.best_of)}: give (best, of), or () for "
            "no such column"
        )
    if len(best_of := config.evaluate.best_of) == 2 and best_of[0] > best_of[1]:
        raise ValueError(
            f"config.evaluate.best_of={tuple(best_of)}: (best, of), the best clips of so many of a "
            "prompt; best is more than of"
        )
    judges = reward_spec(config.reward).data
    if judges not in ("", config.data.name):
        raise ValueError(
            f"config.reward.name={config.reward.name!r} judges {judges} alone, and config.data.name"
            f"={config.data.name!r}: use remote_judge, or none for a method that needs no scores"
        )
    wanted = scoring(config.reward, method.judged_dimensions(config))
    try:
        scored = check_reward(wanted, config.judge.dimensions if config.judge.name else None)
    except ValueError as error:
        if "config." in str(error):
            raise
        raise ValueError(f"config.reward: {error}") from error  # a judge knows no configs
    for dimension in method.judged_dimensions(config):
        if dimension not in scored:
            raise ValueError(
                f"config.align needs scores of {dimension!r}, the judge of config.reward gives "
                + ", ".join(scored)
            )


def check_training(config: ConfigDict, mesh: Mesh) -> None:
    """Refuses settings of any training of a run that do not suit the mesh.

    Raises:
        ValueError: names the stage and the field.
    """
    problems = Problems()
    trained = {name: config[name].train for name in trained_sections(config)}
    if config.judge.name:
        trained["judge"] = config.judge.train
    for name in ("reasoning", "hierarchy"):
        if counts_in(f"judge.{name}.group", config):
            trained[f"judge.{name}"] = config.judge[name].train
    if counts_in("align.reward_train.steps", config):
        trained["align.reward_train"] = config.align.reward_train
    for name, train in trained.items():
        with problems.kept():
            check_config(loop_settings(train), mesh, name)
    problems.refuse()
    for name in trained_sections(config):
        with problems.kept(), _of_the_networks_sizes():
            check_division(section_training(config, name, mesh))
    problems.refuse()


def _pairs_clips(config: ConfigDict) -> bool:
    return config.align.method == GUIDANCE or config.align.rows in ("pairs", "winners")


def _check_pipeline(config: ConfigDict) -> None:
    """Refuses a pipeline that is not there."""
    if not backbone(config.model.name).pretrained:
        return
    if not config.model.init:
        raise ValueError(
            f"config.model.init is empty: a {config.model.name} generator starts from the "
            "folder of a diffusers pipeline, --config.model.init=DIR"
        )
    PipelineFolder(config.model.init).check_weights()


def _check_data(config: ConfigDict) -> None:
    """Refuses data that are not there, or not as their builder wants them."""
    if config.data.name == PREFERENCES:
        mixed = config.align.real_weight > 0
        preferences.check_preferences(config.data, with_real=mixed)
    else:
        check_data(config)


def _check_prompts(config: ConfigDict) -> None:
    """Refuses prompts that the text encoder would refuse, as far as they are known."""
    if config.text.name != "words":
        return
    if config.data.name == PREFERENCES:
        prompts = preferences.clips_of(config.data)["prompt"].unique().tolist()
    else:
        prompts = known_prompts(config)
    text = config.text
    WordTable(text.length, text.dim, truncate=text.truncate).check(prompts)


def _check_policy_name(config: ConfigDict) -> None:
    """Refuses a name that cannot be a part of a folder's, or that another policy has."""
    name = config.align.policy
    if name == PRETRAINED or not _POLICY_NAME.fullmatch(name):
        raise ValueError(
            f"config.align.policy={name!r}: up to 120 letters without / and spaces, no dot in "
            f"front, and not {PRETRAINED!r}"
        )


def _check_belonging(config: ConfigDict) -> None:
    """Refuses data and a network that do not belong together."""
    network = backbone(config.model.name)
    from_file = config.data.name == PREFERENCES
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


@contextlib.contextmanager
def _of_the_networks_sizes() -> Iterator[None]:
    """Says of what sizes break in a network, which knows nothing of configs, whence they come."""
    try:
        yield
    except (ArithmeticError, AssertionError, LookupError, TypeError) as error:
        raise ValueError(
            "config.model: a network of these sizes cannot be built: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_guide(config: ConfigDict, generator: Generator) -> None:
    """Refuses a reward that cannot be made of the generator's layers, or that scores nothing."""
    names, layers = tuple(config.align.dimensions), config.align.layers
    if not names or len(set(names)) < len(names):
        raise ValueError(f"config.align.dimensions={names}: give one or more, each once")
    there = getattr(generator.module, "layers", None)
    if there is None:
        raise ValueError(
            f"config.align.method={config.align.method!r} takes layers of a transformer, which "
            f"config.model.name={config.model.name!r} has not"
        )
    if layers > there:
        raise ValueError(
            f"config.align.layers={layers}: the generator has {there} (config.model."
            f"{config.model.name}.layers)"
        )


def _check_superres(config: ConfigDict) -> None:
    """Refuses a super-resolution network, its sizes or its sampler; nothing is computed."""
    upsampler = build_superres(config)
    try:
        jax.eval_shape(upsampler.init, jax.random.key(0))
    except ValueError as error:
        raise ValueError(f"config.superres.model: {error}") from error
    try:
        upsampler.check_sampler()
    except ValueError as error:
        what = str(error).removeprefix("config.sampler: ")
        raise ValueError(f"config.superres.sampler_steps: {what}") from error


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
    if buckets and drawn not in buckets:
        raise ValueError(
            f"config.data.height and width are {drawn[0]}x{drawn[1]}, at which clips are drawn, "
            f"and config.data.buckets={tuple(buckets)}, at which they are encoded and learnt from, "
            "lack it: add it there, or set config.data.buckets=()"
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
