"""What hosts do together without their devices: one decides, all tell, all wait for each other.

Every host must come to the same calls in the same order. With one process they return at once.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from vidpref.coordination.ending import sentence
from vidpref.coordination.store import HostsError, Store, called, numbers_text, store
from vidpref.coordination.time_spent import WAITING, counted

_SLICE = 10.0  # seconds of one request that waits
_SAY_AFTER = 60.0
_WORK = 24  # how many times as long hosts wait for the work of one

_patience = 3600.0
_calls = 0
_kept: list[str] = []


def be_patient(seconds: float) -> None:
    """Sets how long hosts wait for each other; for what one does alone, 24 times as long."""
    global _patience
    _patience = seconds


def first_host() -> bool:
    """Whether this is host 0, which decides and writes for all."""
    shared = store()
    return shared is None or shared.index == 0


def decided(what: str, decide: Callable[[], Any]) -> Any:
    """Returns what `decide()` returns in host 0, in all hosts.

    Args:
        what: names it in messages.
        decide: called in host 0 alone; what it returns must be JSON. It may work for hours.

    Raises:
        HostsError: in the other hosts, what `decide` raised, or host 0 did not come here in time.
    """
    shared = store()
    if shared is None:
        return decide()
    key = _next_key(what)
    if shared.index != 0:
        with counted(WAITING):
            return _answer(shared, key, what, _WORK * _patience)
    try:
        value = decide()
    except Exception as error:
        shared.put(f"{key}/all", {"error": f"{called(0)}: {sentence(error)}"})
        raise
    shared.put(f"{key}/all", {"value": value})
    return json.loads(json.dumps(value))


def gathered(what: str, value: Any) -> list[Any]:
    """Returns the value of every host, in the order of the hosts, in all of them.

    Args:
        what: names it in messages.
        value: this host's; JSON.

    Raises:
        HostsError: a host did not come here in time; the message names it.
    """
    shared = store()
    if shared is None:
        return [value]
    key = _next_key(what)
    shared.put(f"{key}/of/{shared.index}", value)
    if shared.index != 0:
        with counted(WAITING):
            return _answer(shared, key, what, _patience + 2 * _SLICE)
    try:
        with counted(WAITING):
            found = _collect(shared, f"{key}/of", what)
    except HostsError as error:
        shared.put(f"{key}/all", {"error": str(error)})
        raise
    shared.put(f"{key}/all", {"value": found})
    for earlier in _kept[:-1]:  # all hosts have left those
        shared.forget(earlier)
    del _kept[:-1]
    return found


def barrier(what: str) -> None:
    """Returns when every host has come here.

    Raises:
        HostsError: a host did not come in time; the message names it.
    """
    gathered(what, None)


def _next_key(what: str) -> str:
    """Where the hosts meet; all give the same number to the same call."""
    global _calls
    _calls += 1
    _kept.append(f"vidpref/calls/{_calls}-{what.replace('/', '|')}")
    return _kept[-1]


def _collect(shared: Store, folder: str, what: str) -> list[Any]:
    start, pause, say_at = time.monotonic(), 0.005, _SAY_AFTER
    while True:
        found = shared.below(folder)
        missing = [i for i in range(shared.count) if str(i) not in found]
        if not missing:
            return [found[str(i)] for i in range(shared.count)]
        waited, who = time.monotonic() - start, numbers_text(missing, shared.count)
        if waited > _patience:
            named = ", ".join(map(called, missing[:8]))
            raise HostsError(
                f"waiting for {who} at {what!r}: not there after {_patience:.0f} s. See what "
                f"{named} said last; config.hosts.barrier_seconds sets how long to wait."
            )
        if waited > say_at:
            print(f"waiting for {who} at {what!r} ({waited:.0f} s)", file=sys.stderr, flush=True)
            say_at *= 2
        time.sleep(pause)
        pause = min(0.2, 1.5 * pause)


def _answer(shared: Store, key: str, what: str, patience: float) -> Any:
    """What host 0 says; it is asked for in short requests, which Ctrl-C can come between."""
    end = time.monotonic() + patience
    while (left := end - time.monotonic()) > 0:
        try:
            said = shared.wait_for(f"{key}/all", min(left, _SLICE))
        except TimeoutError:
            continue
        if "error" in said:
            raise HostsError(said["error"])
        return said["value"]
    raise HostsError(
        f"waiting for {called(0)} at {what!r}: nothing heard of it after {patience:.0f} s. See "
        "what it said last; config.hosts.barrier_seconds sets how long to wait."
    )
