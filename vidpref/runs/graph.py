"""A run as data: stages, what each depends on, and which of them are done.

Every stage writes one folder, `WORKDIR/<name>-<fingerprint>/`. The fingerprint covers the stage's
causes and the fingerprints of its inputs, so it is known before anything runs; a changed cause
leads to new folders for exactly the stages that depend on it, and nothing is overwritten. Beside
the stage's own files the folder holds `settings.json` (its causes and inputs) and, once whole,
`done.json`.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from vidpref.config.fields import plain
from vidpref.coordination.agreeing import barrier, decided
from vidpref.digests import changed_files
from vidpref.files import write_text
from vidpref.runs.full_disk import naming_a_full_disk
from vidpref.runs.manifest import IncompleteStage, check_files, list_files
from vidpref.runs.memory import naming_the_stage
from vidpref.runs.stage_time import StageTime, earlier_attempts, timed
from vidpref.storage import mirror

DONE, BEGUN, NEW = "done", "begun", "new"
_NEVER = "never done here"
_DONE_FILE, _SETTINGS_FILE = "done.json", "settings.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A step of a run.

    Attributes:
        name: e.g. "align-dpo-round1"; the beginning of its folder's name.
        body: writes the stage's files into a folder, and goes on from whatever it finds there. It
            may return {file: number of rows}, for the manifest.
        causes: all that the result depends on besides the inputs, by name.
        inputs: stages whose folders it reads, by the name under which it reads them.
    """

    name: str
    body: Callable[[Path], Any]
    causes: Mapping[str, Any]
    inputs: Mapping[str, "Stage"] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits that change when anything changes that the result depends on."""
        known = {
            "stage": self.name,
            "causes": plain(self.causes),
            "inputs": {name: stage.fingerprint for name, stage in self.inputs.items()},
        }
        text = json.dumps(known, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Name of its folder in a work directory."""
        return f"{self.name}-{self.fingerprint}"


@dataclasses.dataclass(frozen=True)
class Finished:
    """A stage that is done: its folder, the time it took, and whether it was done before."""

    stage: Stage
    path: Path
    time: StageTime
    reused: bool

    @property
    def seconds(self) -> float:
        """How long it took, in all attempts together."""
        return self.time.total


def in_order(targets: Iterable[Stage]) -> list[Stage]:
    """Returns the targets and all they stand on, each once, inputs in front.

    Stages that would write the same folder count as one.
    """
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.folder in found:
            return
        for needed in stage.inputs.values():
            visit(needed)
        found[stage.folder] = stage

    for target in targets:
        visit(target)
    return list(found.values())


def remembered_in(workdir: Path) -> Path:
    """Returns where a work directory remembers the digits of files; see `digest_files`."""
    return workdir / "digests.json"


def state_of(stage: Stage, workdir: Path) -> str:
    """Returns `DONE`, `BEGUN` (a run was stopped in it) or `NEW`."""
    folder = workdir / stage.folder
    if (folder / _DONE_FILE).exists():
        return DONE
    return BEGUN if folder.exists() else NEW


def run_stage(stage: Stage, workdir: Path, say: Callable[[str], None]) -> Finished:
    """Runs a stage unless it is done; goes on with one that was stopped.

    Args:
        stage: its inputs must be done.
        workdir: the work directory.
        say: told whether the stage is reused, resumed or begun, and what changed since it was done.
    """
    path = workdir / stage.folder
    # by one process: the file systems of others may still remember what was there
    state, spent = decided(f"{path.name} begins", lambda: _begin(stage, workdir, say))
    if state == DONE:
        return Finished(stage, path, StageTime(**spent), reused=True)
    path.mkdir(parents=True, exist_ok=True)
    if state == BEGUN and mirror.mirrored(path):
        mirror.pull(path, exact=True)
        barrier(f"{path.name} is here")  # hosts may share the folder, and remove what is another's
    with naming_a_full_disk(path), timed(path, StageTime(**spent)) as clock:
        with naming_the_stage(stage.name):
            rows = stage.body(path)
        barrier(f"{path.name} ends")
        took = clock.now()
        decided(f"{path.name} is done", lambda: _write_done(path, took, rows))
    logging.info("%s done in %.1f s: %s", stage.name, took.total, path)
    return Finished(stage, path, took, reused=False)


def _begin(stage: Stage, workdir: Path, say: Callable[[str], None]) -> tuple[str, dict[str, float]]:
    """A stage's state, and the time it took, or that earlier attempts spent."""
    path = workdir / stage.folder
    state = state_of(stage, workdir)
    if state == DONE:
        took = finished(stage, workdir).time
        say(f"done before, kept in {path.name}")
        return state, dataclasses.asdict(took)
    if state == BEGUN:
        say(f"going on in {path.name}")
    else:
        why = why_new(stage, workdir)
        say(f"into {path.name}" + ("" if why == _NEVER else f" ({why})"))
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / _SETTINGS_FILE, json.dumps(settings(stage), indent=2, default=str))
    return state, earlier_attempts(path)


def _write_done(path: Path, took: StageTime, rows: Any) -> None:
    mirror.push(path)  # what libraries wrote
    files = list_files(path, rows if isinstance(rows, Mapping) else {})
    spent = {name: round(value, 3) for name, value in dataclasses.asdict(took).items()}
    done = {"seconds": round(took.total, 3), "time": spent, "files": files}
    write_text(path / _DONE_FILE, json.dumps(done))


def finished(stage: Stage, workdir: Path) -> Finished:
    """Returns a stage that is done.

    Raises:
        ValueError: it is not, or its files are not those that it wrote.
    """
    path = workdir / stage.folder
    if state_of(stage, workdir) != DONE:
        raise ValueError(
            f"{workdir} has no finished {path.name}: run launch/tpu_run.py to its end first, with "
            f"this version of vidpref ({why_new(stage, workdir)})"
        )
    try:
        done = json.loads((path / _DONE_FILE).read_text())
        check_files(path, done.get("files", {}))  # stages of earlier versions have no list
        took = StageTime(**done.get("time", {"total": done["seconds"]}))
        return Finished(stage, path, took, reused=True)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise IncompleteStage(
            f"{path / _DONE_FILE} is damaged ({error}). Delete it and run the command again: what "
            "is there is kept."
        ) from error


def settings(stage: Stage) -> dict[str, Any]:
    """Returns what a stage depends on, as `settings.json` holds it."""
    return {
        "causes": plain(stage.causes),
        "inputs": {name: needed.folder for name, needed in stage.inputs.items()},
    }


def why_new(stage: Stage, workdir: Path) -> str:
    """Returns why a stage is not done: which causes and inputs differ from the nearest one done.

    Of several finished folders of its name, that with the fewest differences counts, the newest
    of these.
    """
    wanted = settings(stage)
    changes = [
        _changes(before, wanted, workdir) for before in _finished_settings(stage.name, workdir)
    ]
    if not changes:
        return _NEVER
    return "; ".join(min(changes, key=len)) or "its code has other causes now"


def folders_of(name: str, causes: Mapping[str, Any], workdir: Path, *, besides: Path) -> list[Path]:
    """Returns the folders of a stage with these causes and other inputs, the newest first.

    Args:
        name: name of the stage.
        causes: see `Stage`.
        workdir: the work directory.
        besides: a folder that is left out.
    """
    wanted = json.loads(json.dumps(plain(causes), default=str))
    known = sorted(workdir.glob(f"{name}-*/{_SETTINGS_FILE}"), key=lambda p: p.stat().st_mtime_ns)
    return [
        path.parent
        for path in reversed(known)
        if path.parent != besides and json.loads(path.read_text())["causes"] == wanted
    ]


def _finished_settings(name: str, workdir: Path) -> list[dict[str, Any]]:
    found = []
    done = workdir.glob(f"{name}-*/{_DONE_FILE}")
    for path in sorted(done, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        folder = path.parent
        known = folder / _SETTINGS_FILE
        if folder.name.rpartition("-")[0] == name and known.exists():
            found.append(json.loads(known.read_text()))
    return found


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], workdir: Path) -> list[str]:
    was, causes = before.get("causes", {}), json.loads(json.dumps(now["causes"], default=str))
    changed = [
        _change(name, was.get(name, "(none)"), causes.get(name, "(none)"), workdir)
        for name in sorted({*was, *causes})
        if was.get(name, "(none)") != causes.get(name, "(none)")
    ]
    old, new = before.get("inputs", {}), now["inputs"]
    inputs = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return changed + [f"its input {name} is another" for name in inputs]


def _change(name: str, was: Any, now: Any, workdir: Path) -> str:
    both = isinstance(was, str) and isinstance(now, str)
    files = changed_files(was, now, remembered_in(workdir)) if both else ""
    return f"{name}: {files or f'{_short(was)} -> {_short(now)}'}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
