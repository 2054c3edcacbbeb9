"""Weights & Biases beside TensorBoard: the project that the trainings of a run are logged to."""

import contextlib
import contextvars
import dataclasses
import importlib.util
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from vidpref.coordination.agreeing import gathered
from vidpref.files import write_text

_ID_FILE = "wandb_id"  # W&B's name of a folder's run: a stage that goes on goes on there
_LONGEST_ID = 128  # of W&B
_WITHOUT_ACCOUNT = ("offline", "disabled", "dryrun")  # as WANDB_MODE


@dataclasses.dataclass(frozen=True)
class Project:
    """Where trainings are logged.

    Attributes:
        name: project of W&B; "" logs nowhere.
        group: what the trainings of one run have in common there.
        settings: shown beside each of them.
    """

    name: str
    group: str
    settings: Mapping[str, Any]


_NOWHERE = Project("", "", MappingProxyType({}))
_PROJECT = contextvars.ContextVar("project", default=_NOWHERE)


@contextlib.contextmanager
def logged_to(project: Project) -> Iterator[None]:
    """Logs the trainings inside to a project; a context, as no loss or step depends on it."""
    token = _PROJECT.set(project)
    try:
        yield
    finally:
        _PROJECT.reset(token)


def check_wandb(project: str) -> None:
    """Refuses a project that the first process, which logs, could not log to; in all alike.

    WANDB_MODE is W&B's own: offline keeps everything in files, which `wandb sync` sends later.

    Raises:
        ValueError: the package or the key of an account is missing.
    """
    if not project:
        return
    first = jax.process_index() == 0
    problem = "".join(gathered("wandb", _problem() if first else ""))
    if problem:
        raise ValueError(f"config.wandb={project!r}: {problem}; config.wandb='' does without")


def start_run(folder: Path) -> Any:
    """Returns the W&B run of a training's folder, None where nothing is logged.

    Its files lie in `folder/wandb`. A folder that has a run gets the same again.
    """
    project = _PROJECT.get()
    if not project.name:
        return None
    import wandb  # most of a second, which only those pay who log there

    return wandb.init(
        project=project.name,
        group=project.group,
        name=folder.name,
        id=_id(folder),
        resume="allow",
        dir=str(folder),
        config=dict(project.settings),
        settings=wandb.Settings(console="off"),  # it would take the progress bars for output
    )


def _id(folder: Path) -> str:
    """The folder's name, which says the stage, and digits: other work directories have it too."""
    path = folder / _ID_FILE
    if not path.exists():
        digits = secrets.token_hex(4)
        stage = re.sub(r"[^\w.-]", "-", folder.name)[-(_LONGEST_ID - len(digits) - 1) :]
        write_text(path, f"{stage}-{digits}")
    return path.read_text(encoding="utf-8")


def _problem() -> str:
    if importlib.util.find_spec("wandb") is None:
        return "the package wandb is not installed; pip install -e '.[wandb]' brings it"
    import wandb

    if os.environ.get("WANDB_MODE") in _WITHOUT_ACCOUNT or wandb.login(prompt=False):
        return ""
    return (
        "no account of Weights & Biases is known here; run `wandb login`, or set "
        "WANDB_MODE=offline to keep the metrics in files"
    )
