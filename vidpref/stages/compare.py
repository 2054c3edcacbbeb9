"""Methods side by side: shared pre-training and labels, chosen hyper-parameters, several seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from vidpref.stages import align, label
from vidpref.stages.artifacts import Artifact
from vidpref.stages.configs import ConfigError, apply_overrides, load_config
from vidpref.stages.label import evaluation_frame, read_labels
from vidpref.stages.recipe import PRETRAINED, Labelled, Recipe, policy_name


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Hyper-parameters that were tried, and their acceptance on validation prompts."""

    method: str
    overrides: tuple[str, ...]
    validation: float
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        frame: one row an evaluation clip; policy, training_seed, split, category, prompt, ...
        candidates: every candidate of every method.
        recipes: the recipe of each method and seed, for artifacts and timings.
        evaluated: clips and labels of each policy of the first seed.
    """

    frame: pd.DataFrame
    candidates: list[Candidate]
    recipes: list[Recipe]
    evaluated: Mapping[str, Labelled]


def load_configs(names: Sequence[str], scale: str, overrides: Sequence[str]) -> list[ConfigDict]:
    """Returns one config a name, each with the overrides.

    Raises:
        ConfigError: two configs of one method, or a bad name, scale or override.
    """
    configs = [load_config(f"{name}:{scale}", overrides) for name in names]
    methods = [c.align.method for c in configs]
    twice = {m for m in methods if methods.count(m) > 1}
    if twice:
        raise ConfigError(f"--configs: {', '.join(sorted(twice))} is there twice")
    for config in configs:
        align.hyper_parameters(config.align)
        label.build_reward(config.reward)
    return configs


def compare(configs: Sequence[ConfigDict], workdir: Path, *, seeds: int, rounds: int) -> Comparison:
    """Runs every method with every seed; all stages are re-entrant.

    For the first seed, each method tries the candidates of its config's `search` (overrides
    separated by spaces) and keeps the one with the highest acceptance on validation prompts, which
    neither train nor test it.
    The methods of a seed share its pre-trained generator and its labelled clips.

    Args:
        configs: one a method.
        workdir: holds the artifacts of all of them.
        seeds: number of training seeds.
        rounds: rounds of sampling, labelling and aligning for every method.
    """
    candidates = [c for config in configs for c in _search(config, workdir)]
    chosen = {c.method: c.overrides for c in candidates if c.chosen}
    frames, recipes, shown = [], [], {}
    for seed in range(seeds):
        evaluated = {}
        for config in configs:
            settled = apply_overrides(config, [*chosen[config.align.method], f"seed={seed}"])
            recipe = Recipe(settled, workdir, f"{config.align.method}, seed {seed}")
            evaluated |= _rounds(recipe, rounds)
            recipes.append(recipe)
        frame = evaluation_frame({name: e.labels.path for name, e in evaluated.items()})
        frames.append(frame.assign(training_seed=seed))
        shown = shown or evaluated
    return Comparison(pd.concat(frames, ignore_index=True), candidates, recipes, shown)


def _rounds(recipe: Recipe, rounds: int) -> dict[str, Labelled]:
    policy: Artifact = recipe.pretrained
    name = PRETRAINED
    evaluated = {name: recipe.evaluation_samples(policy, name)}
    for round_ in range(1, rounds + 1):
        policy = recipe.align(policy, recipe.label_samples(policy, name), round_)
        name = policy_name(recipe.config.align.method, round_)
        evaluated[name] = recipe.evaluation_samples(policy, name)
    return evaluated


def _search(config: ConfigDict, workdir: Path) -> list[Candidate]:
    method = config.align.method
    tried = []
    for candidate in config.search or ("",):
        overrides = tuple(candidate.split())
        recipe = Recipe(apply_overrides(config, overrides), workdir, f"{method}, search")
        labelled = recipe.label_samples(recipe.pretrained, PRETRAINED)
        policy = recipe.align(recipe.pretrained, labelled, 1)
        validation = recipe.validation_samples(policy, method)
        tried.append((overrides, float(read_labels(validation.labels.path)["score"].mean())))
    best = max(range(len(tried)), key=lambda i: tried[i][1])
    return [Candidate(method, o, v, i == best) for i, (o, v) in enumerate(tried)]
