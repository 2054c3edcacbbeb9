"""The whole way of a clip: data -> pretrain -> (sample -> label -> align) x rounds -> evaluate."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from vidpref.config.by_name import read_config
from vidpref.generation import guided
from vidpref.runs.checks import check, check_training
from vidpref.runs.recipe import PRETRAINED, Labelled, Policy, Recipe, policy_name
from vidpref.runs.runner import say
from vidpref.stages import align, label, preferences
from vidpref.stages.rows import sampled as rows


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

    Raises:
        ValueError: the data has less than the config asks for.
    """
    recipe.check_data()
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


def count_stages(config: ConfigDict) -> int:
    """How many stages a run has."""
    first = 3 + config.superres.enabled  # data, text, pretrain or import
    first += config.data.name == preferences.NAME  # latents
    each = 3 if config.align.method == guided.METHOD else 1
    if config.align.method != guided.METHOD:
        kind = rows.kind_of(config.align)
        each += 2 * kind.labels + kind.losers
    judged = config.reward.name != label.NO_JUDGE
    return first + each * config.rounds + (1 + judged) * (config.rounds + 1)


def _header(config: ConfigDict) -> str:
    """What runs, where, and the scale of beta, which means nothing without its reduction."""
    section = config.align
    if section.method == guided.METHOD:
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
