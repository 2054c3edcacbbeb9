"""The work directory of runs: held by one of them at a time, looked through, and cleared up."""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import jax

from vidpref.coordination.agreeing import decided, gathered
from vidpref.coordination.store import numbers_text
from vidpref.files import write_text
from vidpref.runs.graph import BEGUN, DONE, Stage, state_of, why_new
from vidpref.storage import mirror
from vidpref.storage.lease import LeaseHeld

_FOLDER = re.compile(r".+-[0-9a-f]{12}")
_SHARED_AFTER = 30.0  # seconds until what one host wrote is seen by all
_RUNS = "finished_runs.json"  # {folder of a run's last stage, ...}: see `note_run`


class WorkdirInUse(OSError):
    """Another run holds the work directory."""


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds `workdir` for this run; the operating system releases it however the run ends.

    In a bucket it is held by a lease, which a run that was killed cannot release: see `Lease`. Host
    0 holds it for all, and all must see that it does.

    Raises:
        WorkdirInUse: another process holds it; the message names that process.
        ValueError: no folder in which one can write, or one that not all hosts share.
        StorageError: the bucket cannot be written.
    """
    with contextlib.ExitStack() as stack:
        decided("the lock of the work directory", lambda: stack.enter_context(_held(workdir)))
        _check_shared(workdir)
        yield


@contextlib.contextmanager
def _held(workdir: Path) -> Iterator[None]:
    if mirror.mirrored(workdir):
        try:
            with mirror.leased(workdir):
                yield
        except LeaseHeld as error:
            raise WorkdirInUse(str(error)) from error
        return
    with _open_lock(workdir) as file:
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


def _check_shared(workdir: Path) -> None:
    """Refuses a folder that is another one on some host, such as one of its own disk."""

    def holder() -> str:
        if mirror.mirrored(workdir):
            return mirror.lease_token(workdir)
        lock = workdir / "lock"
        return lock.read_text(encoding="utf-8") if lock.exists() else ""

    held, end = decided("who holds the work directory", holder), time.monotonic() + _SHARED_AFTER
    while (mine := holder()) != held and time.monotonic() < end:
        time.sleep(0.5)  # a file system of a network may take its time
    seen = gathered("the work directory is shared", mine == held)
    if not all(seen):
        where = numbers_text([i for i, same in enumerate(seen) if not same], len(seen))
        raise ValueError(
            f"--workdir={mirror.address(workdir)} is not the same folder on {where} as on host 0: "
            "give one of a file system that all hosts share"
        )


def _open_lock(workdir: Path) -> IO[str]:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        return open(workdir / "lock", "a+", encoding="utf-8")
    except OSError as error:
        if workdir.exists() and not workdir.is_dir():
            raise ValueError(f"--workdir={workdir} is a file: name a folder") from error
        raise ValueError(f"--workdir={workdir} cannot be written: {error.strerror}") from error


def dry_run(stages: Sequence[Stage], workdir: Path) -> str:
    """Returns a line a stage: its size on disk, whether it runs, goes on or is reused, and why."""
    width = max(len(stage.name) for stage in stages)
    lines, anew = [], set()
    for number, stage in enumerate(stages, 1):
        state = state_of(stage, workdir)
        size = _size_text(workdir / stage.folder) if state != "new" else ""
        if state == DONE:
            what = "reused"
        else:
            what = "goes on" if state == BEGUN else "runs"
            anew.add(stage.folder)
            waits = [s.name for s in stage.inputs.values() if s.folder in anew]
            why = "" if state == BEGUN else why_new(stage, workdir)
            if waits and "another" in why:
                own = [part for part in why.split("; ") if not part.startswith("its input")]
                why = "; ".join([*own, f"after {', '.join(waits)}"])
            what += f"  {why}" if why else ""
        count = f"{number:>{len(str(len(stages)))}}/{len(stages)}"
        lines.append(f"[{count}] {stage.name:<{width}}  {size:>9}  {what}")
    return "\n".join(lines)


def note_run(workdir: Path, name: str, stages: Sequence[Stage]) -> None:
    """Writes down that a run is finished and which folders it uses, for `unused`."""
    if jax.process_index() != 0:
        return
    known = finished_runs(workdir)
    known[f"{name} {stages[-1].fingerprint}"] = [stage.folder for stage in stages]
    write_text(workdir / _RUNS, json.dumps(known, indent=1))


def finished_runs(workdir: Path) -> dict[str, list[str]]:
    """Returns {run: its folders} of every run that `note_run` noted."""
    path = workdir / _RUNS
    return json.loads(path.read_text()) if path.exists() else {}


def unused(workdir: Path) -> list[Path]:
    """Returns the stage folders of a work directory that no finished run uses.

    Raises:
        ValueError: no run is finished there: all folders would be unused.
    """
    runs = finished_runs(workdir)
    if not runs:
        raise ValueError(f"{workdir}: no run is finished here, so nothing is left over")
    used = {folder for folders in runs.values() for folder in folders}
    return [
        path
        for path in sorted(workdir.iterdir())
        if path.is_dir() and _FOLDER.fullmatch(path.name) and path.name not in used
    ]


def unused_text(paths: Sequence[Path]) -> str:
    """Returns a line a folder with its size and whether it is done, and the sum."""
    lines = [
        f"{_size_text(path):>9}  {path.name}"
        + ("" if (path / "done.json").exists() else "  (not finished: it could be resumed)")
        for path in paths
    ]
    total = sum(size_of(path) for path in paths)
    return "\n".join([*lines, f"{_bytes(total):>9}  in {len(paths)} folders"])


def remove(paths: Sequence[Path]) -> None:
    """Removes folders; one that is being removed does not look done."""
    for path in paths:
        mirror.remove(path)


def size_of(folder: Path) -> int:
    """Returns the bytes of all files of a folder."""
    return sum(mirror.files(folder).values())


def _size_text(folder: Path) -> str:
    return _bytes(size_of(folder))


def _bytes(count: float | int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
