"""A run that hangs says where: stacks of all threads, on SIGUSR1 and some time without a step."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from vidpref.coordination.ending import GOES_ON, STOPPED, last_words

_limit = 0.0  # seconds; 0 for ever


def give_up_after(minutes: float) -> None:
    """Sets how long `watched` waits for a step; 0 for ever."""
    global _limit
    _limit = 60.0 * minutes


def show_stacks_on_signal() -> None:
    """From now on SIGUSR1 prints the stack of every thread to stderr, whatever they wait for."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no signal, or no stderr
        faulthandler.register(signal.SIGUSR1, all_threads=True)


class Watchdog:
    """Ends this process, and with it all hosts, where `step` is not called for too long.

    Args:
        what: names the work in messages.
        limit: seconds.
    """

    def __init__(self, what: str, limit: float):
        self._what, self._limit = what, limit
        self._steps, self._at = 0, time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="watchdog").start()

    def step(self) -> None:
        """Says that the work goes on."""
        self._steps, self._at = self._steps + 1, time.monotonic()

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()

    def _run(self) -> None:
        while (left := self._at + self._limit - time.monotonic()) > 0:
            if self._stopped.wait(left):
                return
        line = (
            f"{self._what}: no step for {self._limit / 60:.3g} minutes, after {self._steps} in "
            f"this process; {GOES_ON}. config.hosts.stall_minutes sets how long to wait."
        )
        print(f"\n{line}\nWhere every thread is:", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):  # where stderr is no file
            faulthandler.dump_traceback(all_threads=True)
        last_words(line, STOPPED)
        # no exit handlers: they would wait for what hangs
        os._exit(STOPPED)


@contextlib.contextmanager
def watched_steps(what: str) -> Iterator[Watchdog | None]:
    """Yields a watchdog while it lives; None where `give_up_after` set no limit."""
    if not _limit:
        yield None
        return
    watchdog = Watchdog(what, _limit)
    try:
        yield watchdog
    finally:
        watchdog.stop()
