"""What the time of this process goes into besides its work, and how much work is on disk."""

import contextlib
import time
from collections.abc import Iterator

COMPILING, SAVING, WAITING = "compiling", "saving", "waiting"

_seconds = dict.fromkeys((COMPILING, SAVING, WAITING), 0.0)
_kept = 0.0


def count(cause: str, seconds: float) -> None:
    """Counts seconds that went into `COMPILING`, `SAVING` or `WAITING`."""
    _seconds[cause] += seconds


@contextlib.contextmanager
def counted(cause: str) -> Iterator[None]:
    """Counts what happens inside; what is counted must not lie in each other."""
    start = time.monotonic()
    try:
        yield
    finally:
        count(cause, time.monotonic() - start)


def causes() -> dict[str, float]:
    """Returns the seconds of each cause since the process began."""
    return dict(_seconds)


def work() -> float:
    """Returns a clock of seconds that stands still while something is counted."""
    return time.monotonic() - sum(_seconds.values())


def keep(until: float | None = None) -> None:
    """Says that work is on disk, which a process that goes on need not do again.

    Args:
        until: what `work` said when what was saved was made; default now.
    """
    global _kept
    _kept = max(_kept, work() if until is None else until)


def kept() -> float:
    """Returns until when work is kept, as `work` tells the time."""
    return _kept
