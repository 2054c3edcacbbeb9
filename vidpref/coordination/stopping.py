"""A polite stop: after SIGTERM all hosts end at one step of a training, and anywhere else at once.

Nothing but a training has anything to lose: other stages put their files whole and go on from them.
Hosts agree on the step in the store, by the threads that watch (`ending.Watch`): each says how many
steps it has begun, and begins no other until all have said so; all stop after the next one.
"""

import contextlib
import threading
from collections.abc import Iterator

from vidpref.coordination.store import Store, store

_STOP = "vidpref/stop"
_OUTSIDE = -1

_lock = threading.Lock()  # held by the watching thread while hosts agree
_asked = threading.Event()
_grace = 30.0  # seconds between SIGTERM and the kill
_agreeing = False
_inside = False
_steps = 0  # begun since the program began, in all trainings together
_at: int | None = None  # step at which all stop


def have_grace(seconds: float) -> None:
    """Sets how long a host lives after SIGTERM; nothing is made faster by it, only warned of."""
    global _grace
    _grace = seconds


def grace() -> float:
    """Returns how long a host lives after SIGTERM, in seconds."""
    return _grace


def ask() -> None:
    """Notes that this host is asked to stop; may be called by a handler of signals."""
    _asked.set()


def forget() -> None:
    """Forgets that this process was asked; for a process that lives on after a stop."""
    _asked.clear()


def ends_at_once() -> bool:
    """Whether a process that is alone has nothing to save where it is."""
    return store() is None and not _inside


def pending() -> bool:
    """Whether hosts are about to agree."""
    return _agreeing or (_asked.is_set() and _at is None)


@contextlib.contextmanager
def steps() -> Iterator[None]:
    """While it lives, a stop waits for `came`; all hosts enter and leave together."""
    global _inside
    with _lock:
        _inside = True
    try:
        yield
    finally:
        with _lock:
            _inside = False


def came() -> bool:
    """Whether to stop after the step that begins; all hosts ask at every step."""
    global _steps
    with _lock:
        _steps += 1
        return _at is not None and _steps >= _at if store() is not None else _asked.is_set()


def wanted() -> bool:
    """Whether a stop was asked for that no step has come to."""
    return _asked.is_set() if store() is None else bool(_at)


def agree(shared: Store) -> bool:
    """Goes on agreeing with the other hosts, if one is asked to stop; called again and again.

    Returns:
        Whether all end at once, as not all of them are at steps.
    """
    global _agreeing, _at
    if _at is not None:
        return _at == 0
    if _asked.is_set():
        shared.put(f"{_STOP}/asked", True)
    if not _agreeing and not shared.below(_STOP):
        return False
    if not _agreeing:
        _lock.acquire()
        _agreeing = True
        shared.put(f"{_STOP}/at/{shared.index}", _steps if _inside else _OUTSIDE)
    known = shared.below(f"{_STOP}/at")
    if len(known) < shared.count:
        return False
    _at = 0 if _OUTSIDE in known.values() else max(known.values()) + 1
    _agreeing = False
    _lock.release()
    return _at == 0
