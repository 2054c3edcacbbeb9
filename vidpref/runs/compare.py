"""Methods side by side: shared pre-training and labels, chosen hyper-parameters, several seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from vidpref.config.by_name import ConfigError, apply_overrides
from vidpref.config.causes import Causes
from vidpref.generation.adopt import load_config
from vidpref.runs.checks import check
from vidpref.runs.methods import open_recipe
from vidpref.runs.policies import policy_name
from vidpref.runs.rounds import Evaluated, Run, run_recipe, run_to
from vidpref.stages.label import evaluation_frame, read_labels

# What compared configs must have in common: all that the pre-trained policy's scores depend on.
_SHARED = (
    *("data", "text", "model", "diffusion", "compute_dtype", "pretrain"),
    *("sampler", "superres", "reward", "evaluate"),
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Hyper-parameters that were tried, and their acceptance on validation prompts.

    A config without a search has one candidate without overrides and acceptance.
    """

    policy: str
    overrides: tuple[str, ...]
    validation: float | None
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        frame: one row an evaluation clip; policy, training_seed, split, category, prompt, ...
        candidates: every candidate of every method.
        runs: the run of each method and seed, for curves and timings.
        evaluated: clips and labels of each policy of the first seed.
    """

    frame: pd.DataFrame
    candidates: list[Candidate]
    runs: list[Run]
    evaluated: Mapping[str, Evaluated]


def load_configs(names: Sequence[str], scale: str, overrides: Sequence[str]) -> list[ConfigDict]:
    """Returns one config a name, each with the overrides.

    Args:
        names: names of configs, each alone or as a variant: `flow_dpo+align.time_power=2`. A
            variant's policy is called `flow_dpo+time_power=2`.
        scale: scale of all configs.
        overrides: overrides of all configs.

    Raises:
        ConfigError: two configs with one name of their policy, or that do not start from one
            generator and draw and judge clips alike; a bad name, scale or override.
        ValueError: a config that cannot work.
    """
    configs = [_variant(name, scale, overrides) for name in names]
    policies = [policy_name(c, 1) for c in configs]
    twice = {name for name in policies if policies.count(name) > 1}
    if twice:
        raise ConfigError(f"--configs: {', '.join(sorted(twice))} is there twice")
    first = Causes(configs[0]).of(*_SHARED)
    for config in configs:
        other = Causes(config).of(*_SHARED)
        differs = [path for path in {**first, **other} if first.get(path) != other.get(path)]
        if differs:
            raise ConfigError(
                f"--configs: {configs[0].name} and {config.name} differ in config.{differs[0]}: "
                "their policies do not start from one pre-trained generator; compare them apart"
            )
    return configs


def _variant(spec: str, scale: str, overrides: Sequence[str]) -> ConfigDict:
    name, *changes = spec.split("+")
    config = load_config(f"{name}:{scale}", [*overrides, *changes])
    if changes:
        policy = "+".join([policy_name(config, 1), *map(_short, changes)]).replace("/", "_")
        config = apply_overrides(config, [f"align.policy={policy}"])
    return config


def _short(change: str) -> str:
    path, _, value = change.partition("=")
    return f"{path.rsplit('.', 1)[-1]}={value}"


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
    for config in configs:
        check(config, rounds)
    candidates = [c for config in configs for c in _search(config, workdir)]
    chosen = {c.policy: c.overrides for c in candidates if c.chosen}
    frames, runs, shown = [], [], {}
    for seed in range(seeds):
        evaluated = {}
        for config in configs:
            name = policy_name(config, 1)
            settled = apply_overrides(config, [*chosen[name], f"seed={seed}"])
            recipe = open_recipe(settled, workdir)
            runs.append(run_recipe(recipe, rounds, f"{name}, seed {seed}"))
            evaluated |= runs[-1].evaluated
        frame = evaluation_frame({name: e.labels for name, e in evaluated.items()})
        frames.append(frame.assign(training_seed=seed))
        shown = shown or evaluated
    return Comparison(pd.concat(frames, ignore_index=True), candidates, runs, shown)


def _search(config: ConfigDict, workdir: Path) -> list[Candidate]:
    name = policy_name(config, 1)
    if not config.search:
        return [Candidate(name, (), None, True)]
    tried = []
    for candidate in config.search:
        overrides = tuple(candidate.split())
        recipe = open_recipe(apply_overrides(config, overrides), workdir)
        policy = recipe.method.improve(recipe, recipe.pretrained, 1)
        labels = recipe.validation(policy).labels
        run_to(recipe, [labels], f"{name}, search")
        score = float(read_labels(recipe.folder(labels))["score"].mean())
        tried.append((overrides, score))
    best = max(range(len(tried)), key=lambda i: tried[i][1])
    return [Candidate(name, o, v, i == best) for i, (o, v) in enumerate(tried)]
