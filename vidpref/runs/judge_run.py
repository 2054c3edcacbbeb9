"""The run of launch/train_judge.py: all stages of a judge, one after the other."""

import functools
from pathlib import Path

from ml_collections import ConfigDict

from vidpref.rewards.registry import JUDGE
from vidpref.runs import workdir as workdirs
from vidpref.runs.graph import run_stage
from vidpref.runs.judge_checks import check_alone
from vidpref.runs.judge_recipe import JudgeRecipe
from vidpref.runs.rounds import say


def run(config: ConfigDict, workdir: Path) -> Path:
    """Runs every stage that is not done; returns the folder of the trained model.

    Raises:
        ValueError: a config that cannot work, or data with too little to learn from.
    """
    check_alone(config)
    stages, done = JudgeRecipe(config, workdir).stages, None
    for number, stage in enumerate(stages, 1):
        title = f"[{number}/{len(stages)}] {stage.name}"
        done = run_stage(stage, workdir, functools.partial(_say, title))
    workdirs.note_run(workdir, f"{config.name}:{config.scale}", stages)
    return done.path / JUDGE


def dry_run(config: ConfigDict, workdir: Path) -> str:
    """Returns a line a stage: what `run` would do with it, and why.

    Raises:
        ValueError: a config that cannot work.
    """
    check_alone(config)
    return workdirs.dry_run(JudgeRecipe(config, workdir).stages, workdir)


def _say(title: str, state: str) -> None:
    say(f"{title}: {state}")
