"""All hosts end together: with the first error of any of them, in the same words.

Devices that wait for a host that has gone never return by themselves, and jax ends a process by
SIGABRT, minutes later, with a message about its service. So a thread of every host looks into the
store once a second: for what another host ended with, and, in host 0, for hosts that have gone
silent. It ends the process whatever the main thread waits for.
"""

import contextlib
import ctypes
import faulthandler
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

from vidpref.coordination import stopping
from vidpref.coordination.store import HostsError, Store, called

STOPPED = 128 + signal.SIGTERM  # ended from outside: schedulers start such a job again
FAILED = 1  # ended by an error: they do not
_EVERY = 1.0  # seconds between two looks
_SOON = 0.1  # the same while hosts agree on where to stop
_FAREWELL = 5.0  # how long host 0, with the store in it, waits for others that end
_GRACE = 30.0  # seconds that hosts have to save what they do when one was asked to stop
GOES_ON = "the same command goes on"
_ENDING = "vidpref/ending"
_BEATS = "vidpref/beats"

_watch: "Watch | None" = None


def sentence(error: BaseException) -> str:
    """Returns an error in one line, or as many as its message has."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
        return f"{name}: {' -> '.join(paths)}: {error.strerror.lower()}"
    return str(error) if isinstance(error, HostsError) else f"{name}: {error}"


def watch(shared: Store, address: str, silence: float) -> None:
    """Watches over the hosts until `stop_watching`.

    Args:
        shared: the store.
        address: HOST:PORT of host 0.
        silence: seconds without a word after which a host counts as lost.
    """
    global _watch
    _watch = Watch(shared, address, silence)


def stop_watching() -> None:
    """Ends the watch; all hosts must have come to the same end."""
    global _watch
    if _watch is not None:
        _watch.stop()
        _watch = None


def watched() -> bool:
    """Whether this process is one of many that end together."""
    return _watch is not None


def end_all(error: BaseException, *, of_user: bool) -> NoReturn:
    """Ends this host and all others with an error, or with what ended another one before it.

    Args:
        error: what this host raised.
        of_user: whether a sentence will do; otherwise the traceback is shown as well.
    """
    assert _watch is not None
    said = sentence(error)
    line = said if isinstance(error, HostsError) else f"{called(_watch.index)}: {said}"
    notes = list(getattr(error, "__notes__", ()))
    if not of_user:
        notes.append("".join(traceback.format_exception(error)).rstrip())
    _watch.end(line, said, notes, guess=not of_user)


def last_words(line: str, code: int) -> None:
    """Ends the other hosts; this one ends by itself, and code of its own."""
    if _watch is not None:
        with contextlib.suppress(RuntimeError):
            _watch.post(f"{called(_watch.index)}: {line}", code)
            _watch.bid_farewell()


class Watch:
    """The thread of a host that ends it with the others; see `watch`."""

    def __init__(self, shared: Store, address: str, silence: float):
        self.index, self._shared = shared.index, shared
        self._address, self._silence = address, silence
        self._heard: dict[int, tuple[Any, float]] = {}
        self._beats, self._looked = 0, time.monotonic()
        self._stopped, self._leaving = threading.Event(), threading.Lock()
        self._code: int | None = None  # once it is known that all end
        self._beat()
        self._thread = threading.Thread(target=self._run, daemon=True, name="hosts")
        self._thread.start()
        if self.index != 0:
            threading.Thread(target=self._await_answers, daemon=True, name="host 0").start()
        self._abort = _on_abort(self._aborted)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(5 * _EVERY)
        _on_abort(None)

    def post(self, line: str, code: int, *, said: str = "", grace: float = 0.0) -> dict[str, Any]:
        """Writes down what all end with; returns it, or what came before.

        Args:
            line: what all hosts print first.
            code: exit status of all.
            said: the line without its host, by which others that say the same know it.
            grace: seconds that the others have to come to the same end.
        """
        mine = {"line": line, "said": said or line, "code": code, "grace": grace}
        self._shared.put(f"{_ENDING}/first", mine)
        return self._first() or mine

    def end(self, line: str, said: str, notes: list[str], *, guess: bool) -> NoReturn:
        """Ends all hosts; called by the main thread.

        Args:
            line: what this host has to say.
            said: the same without its name.
            notes: more of it, which this host alone says.
            guess: whether the cause may be that another host has gone, as broken connections are.
        """
        with self._leaving:  # held to the end: the watcher must not end the process meanwhile
            first = {"line": line, "said": said, "code": FAILED}
            try:
                known = self._first()
                if known is None and guess and (lost := self._silent(min(5.0, self._silence))):
                    known = self.post(_gone(lost, "nothing was heard of it"), STOPPED)
                first = known or self.post(line, FAILED, said=said)
            except RuntimeError:  # of jax: the store is gone
                if guess and self.index != 0 and not _answers(self._address):
                    first = _without_host_0(self._address)
            same = first["said"] == said or first["line"] == line
            self._leave(first, notes if same else [line, *notes])

    def bid_farewell(self) -> None:
        """Says that this host ends; host 0, with which the store ends, waits for the others."""
        self._shared.put(f"{_ENDING}/left/{self.index}", True)
        end = time.monotonic() + _FAREWELL
        while self.index == 0 and time.monotonic() < end:
            if len(self._shared.below(f"{_ENDING}/left")) == self._shared.count:
                break
            time.sleep(0.1)

    def _run(self) -> None:
        while not self._stopped.wait(_SOON if stopping.pending() else _EVERY):
            try:
                self._look()
            except RuntimeError:  # of jax: host 0 is gone, and `_aborted` will say so
                continue

    def _await_answers(self) -> None:
        """Ends this host where host 0 is there and answers nothing: it hangs as a whole."""
        while not self._stopped.wait(_EVERY):
            if time.monotonic() - self._looked > self._silence and self._leaving.acquire(
                blocking=False
            ):
                self._code = STOPPED
                _print(_gone([0], f"no answer for {self._silence:.0f} s"))
                os._exit(STOPPED)

    def _look(self) -> None:
        self._beat()
        first = self._first()
        if first is None and stopping.agree(self._shared):
            first = self.post(f"{called(self.index)}: asked to stop; {GOES_ON}", STOPPED)
        if first is None and self.index == 0:
            now = time.monotonic()
            for index, beat in self._others().items():
                if self._heard.get(index, (None, 0.0))[0] != beat:
                    self._heard[index] = (beat, now)
            late = [i for i, (_, at) in self._heard.items() if now - at > self._silence]
            if late:
                first = self.post(_gone(late, f"silent for {self._silence:.0f} s"), STOPPED)
        self._looked = time.monotonic() if first is None else math.inf
        if first is None or self._stopped.wait(first.get("grace", 0.0)):
            return
        if self._leaving.acquire(blocking=False):
            self._leave(first, [])

    def _leave(self, first: dict[str, Any], own: list[str]) -> NoReturn:
        self._code = first["code"]
        text = "\n".join([first["line"], *own])
        _print(text)
        with contextlib.suppress(RuntimeError):
            self.bid_farewell()
        # no exit handlers: jax's would wait for the other hosts
        os._exit(self._code)

    def _first(self) -> dict[str, Any] | None:
        return self._shared.below(_ENDING).get("first")

    def _beat(self) -> None:
        self._beats += 1
        self._shared.put(f"{_BEATS}/{self.index}", self._beats, again=True)

    def _others(self) -> dict[int, int]:
        beats = {int(index): beat for index, beat in self._shared.below(_BEATS).items()}
        return {index: beat for index, beat in beats.items() if index != self.index}

    def _silent(self, seconds: float) -> list[int]:
        """The hosts of which nothing is heard in this time; returns as soon as all are heard."""
        before = now = self._others()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.2)
            if self._first() is not None:
                return []
            now = self._others()
            if all(now.get(index) != beat for index, beat in before.items()):
                return []
        return [index for index, beat in before.items() if now.get(index) == beat]

    def _aborted(self, signum: int) -> None:
        """jax ends every process by SIGABRT as soon as it cannot reach host 0."""
        if self._code is not None:
            os._exit(self._code)
        if self.index != 0 and not _answers(self._address):
            _print(_without_host_0(self._address)["line"])
            os._exit(STOPPED)
        if faulthandler.is_enabled():
            faulthandler.dump_traceback()


def _print(text: str) -> None:
    """Prints to stderr; nobody may be reading any more, and the process must end all the same."""
    with contextlib.suppress(Exception):
        os.write(2, f"\n{text}\n".encode())
        sys.stdout.flush()


def _gone(lost: list[int], why: str) -> str:
    return (
        f"{', '.join(map(called, lost))} is gone ({why}): it was killed, or lost its network. "
        "The same command goes on from what is saved."
    )


def _without_host_0(address: str) -> dict[str, Any]:
    line = _gone([0], f"{address} does not answer")
    return {"line": line, "said": line, "code": STOPPED}


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
    except OSError:
        return False
    return True


def _on_abort(handler: Any) -> Any:
    """Has the C library call `handler` on SIGABRT, whatever thread raises it; None: nothing.

    Python's own handlers run in the main thread, later, and an abort does not wait for them.
    """
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    function = kind(handler) if handler is not None else None
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signal.SIGABRT, ctypes.cast(function, ctypes.c_void_p) if function else None)
    return function


@contextlib.contextmanager
def ending_together(of_user: Any) -> Iterator[None]:
    """While it lives, an error ends all hosts; where this process is alone it does nothing.

    Args:
        of_user: `(error) -> bool`, whether a user can cause and mend it.
    """
    try:
        yield
    except SystemExit as stopped:  # all hosts stop, as after SIGTERM
        if stopped.code and _watch is not None:
            code = stopped.code if isinstance(stopped.code, int) else FAILED
            with contextlib.suppress(RuntimeError):
                _watch.post(f"{called(_watch.index)}: {stopped}", code, grace=_GRACE)
        raise
    except Exception as error:
        if watched():
            end_all(error, of_user=of_user(error))
        raise
    finally:
        stop_watching()
