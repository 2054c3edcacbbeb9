"""Methods side by side: shared pre-training and labels, chosen hyper-parameters, several seeds."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from vidpref.config.by_name import ConfigError, apply_overrides
from vidpref.config.causes import Causes
from vidpref.config.schema import NO_JUDGE
from vidpref.generation.adopt import load_config
from vidpref.runs.checks import check, check_training
from vidpref.runs.counted import CountedStages
from vidpref.runs.graph import Stage, in_order
from vidpref.runs.methods import METHODS, open_recipe
from vidpref.runs.policies import PRETRAINED, policy_name
from vidpref.runs.recipe import Recipe
from vidpref.runs.rounds import Evaluated, Run, run_recipe, run_to, say
from vidpref.runs.workdir import note_run
from vidpref.stages.label import evaluation_frame, read_labels

# What compared configs must have in common: all that the pre-trained policy's scores depend on.
_SHARED = (
    *("seed", "data", "text", "model", "diffusion", "compute_dtype", "pretrain"),
    *("sampler", "superres", "judge", "reward", "evaluate"),
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
        frame: one row an evaluation clip; policy, training_seed, split, category, prompt, ...;
            None without a judge.
        candidates: every candidate of every method.
        runs: the run of each method and seed, for curves and timings.
        evaluated: clips and labels of each policy of the first seed.
    """

    frame: pd.DataFrame | None
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
    return _judged_alike(configs)


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
        seeds: number of training seeds, counted from the configs' own.
        rounds: rounds of sampling, labelling and aligning for every method.

    Raises:
        ValueError: a config, or a candidate of its search, that cannot work; before anything runs.
    """
    check_comparison(configs, workdir, rounds)
    planned = functools.partial(_planned, configs, workdir, seeds, rounds)
    stages = CountedStages(workdir, say)
    stages.plan(planned({}))
    candidates = [c for config in configs for c in _search(config, workdir, stages)]
    chosen = {c.policy: c.overrides for c in candidates if c.chosen}
    stages.plan(planned(chosen))
    frames, runs, shown = [], [], {}
    for seed, name, recipe in _recipes(configs, workdir, seeds, chosen):
        run_one = functools.partial(stages.run, f"{name}, seed {seed}")
        runs.append(run_recipe(recipe, rounds, run_one))
    stages.tell_kept()
    for start in range(0, len(runs), len(configs)):
        evaluated: dict[str, Evaluated] = {}
        for run in runs[start : start + len(configs)]:
            evaluated |= run.evaluated
        shown = shown or evaluated
        if configs[0].reward.name != NO_JUDGE:
            frame = evaluation_frame({name: e.labels for name, e in evaluated.items()})
            frames.append(frame.assign(training_seed=runs[start].recipe.config.seed))
    names = ", ".join(policy_name(config, 1) for config in configs)
    note_run(workdir, f"compare {names}:{configs[0].scale}", stages.used)
    frame = pd.concat(frames, ignore_index=True) if frames else None
    return Comparison(frame, candidates, runs, shown)


def check_comparison(configs: Sequence[ConfigDict], workdir: Path, rounds: int) -> None:
    """Refuses configs that cannot be compared to the end, before anything is computed.

    Raises:
        ValueError: a config or a candidate of its search that cannot work, a search without a
            judge, or two policies of one name.
    """
    names = [PRETRAINED]
    for config in configs:
        names += [policy_name(config, round_) for round_ in range(1, rounds + 1)]
        if config.search and config.reward.name == NO_JUDGE:
            raise ConfigError(
                f"{config.name}: config.search chooses by acceptance, and config.reward.name="
                f"{NO_JUDGE!r}: nobody accepts; give a judge, or --config.search=()"
            )
        for overrides in _overrides(config):
            candidate = apply_overrides(config, overrides)
            check(candidate, rounds)
            check_training(candidate, open_recipe(candidate, workdir).mesh)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"--configs: two policies would be called {', '.join(sorted(twice))}")


def _judged_alike(configs: Sequence[ConfigDict]) -> list[ConfigDict]:
    """The configs, with all that any of them needs scored by the judge of every one."""
    candidates = [apply_overrides(c, overrides) for c in configs for overrides in _overrides(c)]
    if configs[0].reward.name == NO_JUDGE or configs[0].reward.dimensions:
        return list(configs)
    needed = [METHODS[c.align.method].judged_dimensions(c) for c in candidates]
    if len({frozenset(names) for names in needed}) == 1:
        return list(configs)
    union = dict.fromkeys((configs[0].reward.dimension, *(n for names in needed for n in names)))
    return [apply_overrides(c, [f"reward.dimensions={tuple(union)}"]) for c in configs]


def _overrides(config: ConfigDict) -> list[tuple[str, ...]]:
    """The overrides of each candidate; none of them without a search."""
    return [tuple(candidate.split()) for candidate in config.search] or [()]


def _recipes(
    configs: Sequence[ConfigDict],
    workdir: Path,
    seeds: int,
    chosen: Mapping[str, Sequence[str]],
) -> Iterable[tuple[int, str, Recipe]]:
    """Seed, method and recipe of each run in turn."""
    for seed in range(configs[0].seed, configs[0].seed + seeds):
        for config in configs:
            name = policy_name(config, 1)
            overrides = chosen.get(name, _overrides(config)[0])
            settled = apply_overrides(config, [*overrides, f"seed={seed}"])
            yield seed, name, open_recipe(settled, workdir)


def _planned(
    configs: Sequence[ConfigDict],
    workdir: Path,
    seeds: int,
    rounds: int,
    chosen: Mapping[str, Sequence[str]],
) -> list[Stage]:
    """All stages; of a method without a choice yet as if the first candidate were chosen."""
    targets = [labels for c in configs for _, labels in _tried(c, workdir)]
    for _, _, recipe in _recipes(configs, workdir, seeds, chosen):
        targets += recipe.stages(rounds)
    return in_order(targets)


def _tried(config: ConfigDict, workdir: Path) -> list[tuple[Recipe, Stage]]:
    """The recipe of each candidate of a search and the labels that it is chosen by."""
    found = []
    for overrides in _overrides(config) if config.search else ():
        recipe = open_recipe(apply_overrides(config, overrides), workdir)
        policy = recipe.method.improve(recipe, recipe.pretrained, 1)
        found.append((recipe, recipe.validation(policy).labels))
    return found


def _search(config: ConfigDict, workdir: Path, stages: CountedStages) -> list[Candidate]:
    name = policy_name(config, 1)
    if not config.search:
        return [Candidate(name, (), None, True)]
    run_one = functools.partial(stages.run, f"{name}, search")
    scores = []
    for recipe, labels in _tried(config, workdir):
        run_to(recipe, list(recipe.inputs.stages.values()), run_one)
        if not recipe.inputs.data.has("validation"):
            raise ConfigError(
                f"{config.name}: config.search chooses on validation prompts, and the data has "
                "none; choose yourself, with --config.search=()"
            )
        run_to(recipe, [labels], run_one)
        scores.append(float(read_labels(recipe.folder(labels))["score"].mean()))
    best = max(range(len(scores)), key=lambda i: scores[i])
    return [
        Candidate(name, overrides, score, i == best)
        for i, (overrides, score) in enumerate(zip(_overrides(config), scores, strict=True))
    ]
