"""A polite stop: SIGTERM ends a training at its next step, after a checkpoint."""

import contextlib
import signal
import sys
import threading
from types import FrameType

from vidpref.coordination import stopping
from vidpref.coordination.agreeing import first_host

_BETWEEN = "stopped after a training; the same command goes on"
_TERMINATED = 128 + signal.SIGTERM  # what a shell reports; schedulers start such a job again


class Preempted(SystemExit):
    """The run was asked to stop and saved where it was; the same command goes on from there."""

    def __init__(self, message: str):
        super().__init__(_TERMINATED)
        self.message = message

    def __str__(self) -> str:
        return self.message


class PreemptionNotice:
    """Knows whether the run should stop; a context manager that catches SIGTERM while it lives.

    In a program of vidpref (`runs/interrupts.py`) SIGTERM is caught all the time. In a pod all
    hosts stop at one step; see `stopping`.

    Raises:
        Preempted: when it ends after the last step, and a stop was asked for meanwhile.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._catches = False

    def came(self) -> bool:
        """Whether to stop after the step that begins; all processes must ask, at every step."""
        return stopping.came()

    def __enter__(self) -> "PreemptionNotice":
        # Signal handlers belong to the main thread; elsewhere SIGTERM keeps its usual meaning.
        in_main = threading.current_thread() is threading.main_thread()
        self._catches = in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._catches:
            signal.signal(signal.SIGTERM, _note)
        self._stack.enter_context(stopping.steps())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        asked = stopping.wanted()
        if self._catches:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            stopping.forget()
        if asked and kind is None:
            if first_host():
                print(_BETWEEN, file=sys.stderr, flush=True)
            raise Preempted(_BETWEEN)


def _note(signum: int, frame: FrameType | None) -> None:
    stopping.ask()
