"""A run: every stage of a config, from data to labelled evaluation clips."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from vidpref.config.by_name import read_config
from vidpref.config.fields import plain
from vidpref.coordination.agreeing import decided
from vidpref.runs import workdir as workdirs
from vidpref.runs.checks import check, check_training
from vidpref.runs.graph import Finished, Stage, finished, in_order, run_stage
from vidpref.runs.methods import METHODS, open_recipe
from vidpref.runs.policies import Policy
from vidpref.runs.recipe import Recipe
from vidpref.runs.run_folder import home
from vidpref.training.wandb_runs import Project, logged_to


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Folders of the evaluation clips of a policy and of their labels; see `Labelled`."""

    samples: Path
    labels: Path | None
    proxy: Path | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        recipe: its graph.
        stages: its stages, in the order in which they were done.
        evaluated: evaluation clips of each policy by its name, the pre-trained one first.
    """

    recipe: Recipe
    stages: Sequence[Finished]
    evaluated: dict[str, Evaluated]


def run(config: ConfigDict, workdir: Path) -> Run:
    """Runs every stage of a config that is not done, and notes what the run uses.

    Raises:
        ValueError: a config that cannot work, or data with less than it asks for.
    """
    check(config)
    say(_header(config))
    recipe = open_recipe(config, workdir)
    say(_sizes(recipe))
    check_training(config, recipe.mesh)
    done = run_recipe(recipe, config.rounds)
    workdirs.note_run(workdir, f"{config.name}:{config.scale}", [f.stage for f in done.stages])
    return done


def dry_run(config: ConfigDict, workdir: Path) -> str:
    """Returns a line a stage: what `run` would do with it, and why.

    Raises:
        ValueError: a config that cannot work.
    """
    check(config)
    return workdirs.dry_run(open_recipe(config, workdir).stages(config.rounds), workdir)


def run_recipe(
    recipe: Recipe, rounds: int, run_one: Callable[[Stage], Finished] | None = None
) -> Run:
    """Runs every stage of a recipe that is not done.

    Args:
        recipe: the graph.
        rounds: rounds of sampling, labelling and aligning.
        run_one: see `run_to`.

    Raises:
        ValueError: the data has less than the config asks for.
    """
    stages = recipe.stages(rounds)
    return Run(recipe, run_to(recipe, stages, run_one), _evaluated(recipe, rounds))


def run_to(
    recipe: Recipe, targets: Sequence[Stage], run_one: Callable[[Stage], Finished] | None = None
) -> list[Finished]:
    """Runs the targets and all that they stand on, as far as they are not done.

    Args:
        recipe: the graph that they belong to.
        targets: stages.
        run_one: runs a stage unless it is done; by default with a line that says its number.

    Raises:
        ValueError: the data has less than the config asks for.
    """
    stages, config = in_order(targets), recipe.config
    data, done = set(recipe.inputs.stages.values()), []
    project = Project(config.wandb, f"{config.name}:{config.scale}", plain(config))
    for number, stage in enumerate(stages, 1):
        with logged_to(project):
            if run_one is None:
                done.append(_run(stage, recipe, f"[{number}/{len(stages)}] {stage.name}"))
            else:
                done.append(run_one(stage))
        if stage in data:
            data.remove(stage)
            if not data:
                recipe.check_data()
    return done


def open_finished(workdir: Path, mesh: dict[str, int]) -> tuple[Recipe, dict[str, Policy]]:
    """Returns the recipe of a finished run and its policies; nothing is computed.

    Args:
        workdir: the work directory of `launch/tpu_run.py`, for its newest run, or the folder of any
            run in it, `WORKDIR/runs/NAME`.
        mesh: sizes of the axes of this program's devices, which need not be those of the run.

    Raises:
        ValueError: the folder holds no finished run.
    """
    config = read_config(workdir)
    with config.unlocked():
        config.mesh = ConfigDict(mesh)
    recipe = open_recipe(config, home(workdir))
    stages = recipe.stages(config.rounds)

    def look() -> None:
        for stage in stages:
            finished(stage, recipe.workdir)

    decided("whether the run is finished", look)
    return recipe, recipe.policies(config.rounds)


def say(line: str) -> None:
    """Prints a line of progress to stderr, as progress bars are; in a pod once."""
    if jax.process_index() == 0:
        print(line, file=sys.stderr, flush=True)


def _run(stage: Stage, recipe: Recipe, title: str) -> Finished:
    return run_stage(stage, recipe.workdir, lambda state: say(f"{title}: {state}"))


def _evaluated(recipe: Recipe, rounds: int) -> dict[str, Evaluated]:
    found = {}
    for name, policy in recipe.policies(rounds).items():
        clips = recipe.evaluation(policy)
        stages = (clips.samples, clips.labels, clips.proxy)
        folders = (None if stage is None else recipe.workdir / stage.folder for stage in stages)
        found[name] = Evaluated(*folders)
    return found


def _sizes(recipe: Recipe) -> str:
    """What every stage's clips measure."""
    data, generator = recipe.config.data, recipe.generator

    def size(*numbers: int) -> str:
        return "x".join(map(str, numbers))

    drawn = f"{data.frames} frames of {size(data.height, data.width)}"
    if not generator.latent:
        high = size(data.high_height, data.high_width)
        said = f"clips: {drawn}" + (
            f", {high} by super-resolution" if recipe.config.superres.enabled else ""
        )
    else:
        encoded = ", ".join(size(*bucket) for bucket in data.buckets) or "that size"
        latents = size(*generator.clip_shape)
        said = f"clips: drawn at {drawn}, encoded at {encoded}; latents {latents}"
    asked, at_once = recipe.config.sampler.batch_size, recipe.drawn_at_once
    if at_once == asked:
        return said
    return f"{said}; {at_once} at once (config.sampler.batch_size={asked}, over the devices)"


def _header(config: ConfigDict) -> str:
    """What runs, where, and the scale of beta, which means nothing without its reduction."""
    shown = METHODS[config.align.method].settings(config)
    settings = ", ".join(f"{name}={value}" for name, value in shown.items())
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    expected = f"; {config.expected_time}" if config.expected_time else ""
    return (
        f"{config.name}:{config.scale}: {config.align.method} with {settings}, "
        f"{config.rounds} round(s), on {devices}{expected}"
    )
