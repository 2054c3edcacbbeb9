"""The whole way of a clip: data -> pretrain -> (sample -> label -> align) x rounds -> evaluate."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from vidpref.stages import align, guidance, label, rows
from vidpref.stages.generator import build_base
from vidpref.stages.recipe import PRETRAINED, Labelled, Recipe, policy_name, say
from vidpref.stages.text_encoders import check_text


def run(config: ConfigDict, workdir: Path) -> tuple[Recipe, dict[str, Labelled]]:
    """Runs every stage of a config, from data to labelled evaluation clips.

    Returns:
        The recipe with its artifacts, and the evaluation clips of each policy by its name.
    """
    check(config)
    say(_header(config))
    recipe = Recipe(config, workdir, heading=f"{{n}}/{count_stages(config)}")
    return recipe, run_rounds(recipe, config.rounds)


def run_rounds(recipe: Recipe, rounds: int) -> dict[str, Labelled]:
    """Aligns `rounds` times, each round from the policy of the one before.

    Returns:
        The labelled evaluation clips of each policy by its name, the pre-trained one first.
    """
    policies = {PRETRAINED: recipe.pretrained}
    for round_ in range(1, rounds + 1):
        name, policy = list(policies.items())[-1]
        policies[policy_name(recipe.config, round_)] = recipe.align(policy, name, round_)
    return {name: recipe.evaluation_samples(policy, name) for name, policy in policies.items()}


def check(config: ConfigDict, rounds: int = 0) -> None:
    """Refuses a config that cannot work, before anything is computed.

    Args:
        config: of a run.
        rounds: of it; 0 takes `config.rounds`.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    check_text(config.text)
    section = config.align
    if section.method == guidance.METHOD:
        guidance.check(section)
        if (rounds or config.rounds) > 1:
            raise ValueError("align.method=nrg trains no generator: there is no second round")
        needed = tuple(section.dimensions)
    else:
        align.check(section, build_base(config))
        needed = rows.judged_dimensions(section)
    judge = label.build_reward(config.reward)
    for dimension in needed:
        if dimension not in judge.dimensions:
            raise ValueError(
                f"config.align needs scores of {dimension!r}, the judge of config.reward gives "
                + ", ".join(judge.dimensions)
            )


def count_stages(config: ConfigDict) -> int:
    """How many stages a run has."""
    first = 3 + config.superres.enabled  # data, text, pretrain
    each = 3 if config.align.method == guidance.METHOD else 1
    if config.align.method != guidance.METHOD:
        kind = rows.kind_of(config.align)
        each += 2 * kind.labels + kind.losers
    return first + each * config.rounds + 2 * (config.rounds + 1)


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
