"""Re-entrant stages: each writes one folder whose name carries the fingerprint of its causes.

`<workdir>/<stage>-<fingerprint>/` holds the stage's files, `settings.json` (what it depends on)
and, once whole, `done.json`. The fingerprint covers the stage's settings and the fingerprints of
its inputs, so a changed config field leads to new folders for exactly the stages that depend on
it, and nothing that was computed is overwritten.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from vidpref.files import write_text

# Fields that change how a run is watched, not what it computes.
_WITHOUT_EFFECT = frozenset({"log_every"})


class WorkdirInUse(RuntimeError):
    """Another run holds the work directory."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    """What a finished stage left: its folder, its fingerprint, and how long it took (seconds)."""

    stage: str
    path: Path
    fingerprint: str
    seconds: float
    reused: bool


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds `workdir` for this run; the operating system releases it however the run ends.

    Raises:
        WorkdirInUse: another process holds it; the message names that process.
    """
    if jax.process_index() != 0:
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise WorkdirInUse(
                f"{workdir} is in use by another run ({file.read().strip() or 'unknown'}). "
                "Wait for it, stop it, or give this run another --workdir."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def fingerprint(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> str:
    """Returns 12 hex digits that change when anything changes that the result depends on."""
    causes = {
        "stage": stage,
        "settings": plain(settings),
        "inputs": {k: v.fingerprint for k, v in inputs.items()},
    }
    text = json.dumps(causes, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_stage(
    workdir: Path,
    stage: str,
    body: Callable[[Path], None],
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Artifact] | None = None,
    announce: Callable[[str], None] = logging.info,
) -> Artifact:
    """Runs `body(folder)` unless this very stage is already done; goes on with a broken one.

    Args:
        workdir: the work directory.
        stage: name, e.g. "align-dpo-round1"; part of the folder's name.
        body: writes the stage's files; must itself go on from whatever it finds in the folder.
        settings: everything the result depends on, apart from the inputs.
        inputs: artifacts the stage reads.
        announce: told whether the stage is reused, resumed or begun.
    """
    inputs = inputs or {}
    digest = fingerprint(stage, settings, inputs)
    path = workdir / f"{stage}-{digest}"
    done = path / "done.json"
    if done.exists():
        announce(f"done before, kept in {path.name}")
        return find_stage(workdir, stage, settings=settings, inputs=inputs)
    announce(f"going on in {path.name}" if path.exists() else f"into {path.name}")
    path.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    spent = path / "seconds.txt"  # of earlier, interrupted attempts
    earlier = float(spent.read_text()) if spent.exists() else 0.0
    if jax.process_index() == 0:
        causes = {
            "settings": plain(settings),
            "inputs": {k: v.path.name for k, v in inputs.items()},
        }
        write_text(path / "settings.json", json.dumps(causes, indent=2, default=str))
    try:
        body(path)
    finally:
        seconds = earlier + time.monotonic() - start
        if jax.process_index() == 0:
            write_text(spent, f"{seconds:.3f}")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(path.name)
    if jax.process_index() == 0:
        write_text(done, json.dumps({"seconds": round(seconds, 3)}))
    logging.info("%s done in %.1f s: %s", stage, seconds, path)
    return Artifact(stage, path, digest, seconds, reused=False)


def find_stage(
    workdir: Path, stage: str, *, settings: Mapping[str, Any], inputs: Mapping[str, Artifact]
) -> Artifact:
    """Returns a stage that is done; arguments as those of `run_stage`.

    Raises:
        ValueError: it is not done.
    """
    digest = fingerprint(stage, settings, inputs)
    path = workdir / f"{stage}-{digest}"
    done = path / "done.json"
    if not done.exists():
        raise ValueError(
            f"{workdir} has no finished {path.name}: run launch/tpu_run.py to its end first, with "
            "this version of vidpref"
        )
    return Artifact(stage, path, digest, json.loads(done.read_text())["seconds"], reused=True)


def plain(value: Any) -> Any:
    """ConfigDicts and containers as plain, ordered data, without the fields that have no effect."""
    if isinstance(value, ConfigDict | Mapping):
        items = value.items()
        return {str(k): plain(v) for k, v in sorted(items) if k not in _WITHOUT_EFFECT}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value
