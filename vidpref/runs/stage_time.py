"""Where the time of a stage went, over all attempts: `time.json` in its folder."""

import contextlib
import dataclasses
import functools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from vidpref.coordination import time_spent
from vidpref.coordination.agreeing import first_host
from vidpref.files import write_text

FILE = "time.json"
_EVERY = 20.0  # seconds between two notes: what a kill takes from the account
_COMPILED = "/jax/core/compile/backend_compile_duration"  # also where a program is found on disk


@dataclasses.dataclass(frozen=True)
class StageTime:
    """Seconds of a stage, as host 0 saw them.

    Attributes:
        total: all attempts together; what follows is part of it, but for `between`.
        compiling: in XLA's compiler, or for a program that it had compiled before.
        saving: waiting for checkpoints.
        waiting: for other hosts, where hosts meet; not inside a step of a training.
        lost: work of attempts that were stopped before it was on disk.
        between: from the end of an attempt to the start of the next one.
    """

    total: float = 0.0
    compiling: float = 0.0
    saving: float = 0.0
    waiting: float = 0.0
    lost: float = 0.0
    between: float = 0.0

    @property
    def productive(self) -> float:
        """What is left of the total."""
        return max(0.0, self.total - self.compiling - self.saving - self.waiting - self.lost)

    def __add__(self, other: "StageTime") -> "StageTime":
        both = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return StageTime(*(a + b for a, b in both))


class Clock:
    """Notes the time of an attempt in the stage's folder, now and then and at the end.

    Args:
        folder: the stage's folder.
        earlier: of earlier attempts, from `earlier_attempts`.
    """

    def __init__(self, folder: Path, earlier: StageTime):
        self._folder, self._earlier = folder, earlier
        self._start, self._causes = time.monotonic(), time_spent.causes()
        time_spent.keep()  # nothing to lose yet
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="clock")
        if first_host():
            self._note()
            self._thread.start()

    def now(self) -> StageTime:
        """Returns the time until now."""
        causes = time_spent.causes()
        spent = {cause: causes[cause] - before for cause, before in self._causes.items()}
        return self._earlier + StageTime(total=time.monotonic() - self._start, **spent)

    def stop(self) -> StageTime:
        """Ends the attempt; returns the time until now."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        if first_host():
            self._note()
        return self.now()

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY):
            self._note()

    def _note(self) -> None:
        unsaved = max(0.0, time_spent.work() - time_spent.kept())
        note = dataclasses.asdict(self.now()) | {"unsaved": unsaved, "until": time.time()}
        with contextlib.suppress(Exception):  # what hinders it ends the stage in its own words
            write_text(self._folder / FILE, json.dumps(note))


@contextlib.contextmanager
def timed(folder: Path, earlier: StageTime) -> Iterator[Clock]:
    """Yields the clock of an attempt that happens inside."""
    _listen()
    clock = Clock(folder, earlier)
    try:
        yield clock
    finally:
        clock.stop()


def earlier_attempts(folder: Path) -> dict[str, float]:
    """Returns the fields of `StageTime` of the attempts that left a note in a stage's folder."""
    try:
        note = json.loads((folder / FILE).read_text(encoding="utf-8"))
        note["lost"] += note.pop("unsaved")
        note["between"] += max(0.0, time.time() - note.pop("until"))
        return dataclasses.asdict(StageTime(**note))
    except (OSError, ValueError, KeyError, TypeError):  # none, or of another version
        return {}


@functools.cache
def _listen() -> None:
    def heard(event: str, seconds: float, **_: Any) -> None:
        if event == _COMPILED:
            time_spent.count(time_spent.COMPILING, seconds)

    jax.monitoring.register_event_duration_secs_listener(heard)
