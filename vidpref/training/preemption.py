"""A polite stop: SIGTERM ends a run at its next step, after a checkpoint."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

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

    In a pod JAX's own service catches the signal, and makes all processes agree on a step.
    """

    def __init__(self) -> None:
        self._came = False
        self._previous = None
        # Signal handlers belong to the main thread; elsewhere SIGTERM keeps its usual meaning.
        in_main = threading.current_thread() is threading.main_thread()
        self._catches = in_main and jax.process_count() == 1

    def came(self, step: int) -> bool:
        """Whether to stop after `step`; all processes must ask, at every step."""
        if jax.process_count() == 1:
            return self._came
        try:
            return multihost_utils.reached_preemption_sync_point(step)
        except RuntimeError:  # the service is off in this cluster
            return False

    def __enter__(self) -> "PreemptionNotice":
        if self._catches:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._catches:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._came = True
