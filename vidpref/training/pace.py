"""How long the steps of a training take, which host is slow, and when it is time to save."""

import contextlib
import statistics
import time
from collections.abc import Iterator

from vidpref.coordination.agreeing import gathered
from vidpref.coordination.store import called, store

_SLOW = 2.0  # times the median of the other hosts
_MATTERS = 0.1  # of a step


class Pace:
    """Times of a training, the same in all hosts at the steps that are logged.

    Devices wait for each other in every step, so that a slow host shows in nothing but in what it
    does by itself: reading its rows and handing them to its devices.

    Args:
        name: name of the run.
        log_every: steps between two exchanges.
        minutes: minutes between two checkpoints; 0: none by time.
    """

    def __init__(self, name: str, log_every: int, minutes: float):
        self._name, self._log_every, self._every = name, log_every, 60.0 * minutes
        self._saved = self._since = time.monotonic()
        self._own, self._steps = 0.0, 0
        self._named: set[int] = set()

    @contextlib.contextmanager
    def own_work(self) -> Iterator[None]:
        """Counts what happens inside as this host's own work of a step."""
        start = time.monotonic()
        yield
        self._own += time.monotonic() - start
        self._steps += 1

    def at(self, step: int) -> tuple[dict[str, float], bool, str]:
        """Returns metrics of the hosts, whether to save by time, and a warning or "".

        Where this process is alone there is nothing to measure, and the clock is asked every step.
        """
        late = bool(self._every) and time.monotonic() - self._saved > self._every
        if store() is None:
            return {}, late, ""
        if step % self._log_every:
            return {}, False, ""
        now, steps = time.monotonic(), max(self._steps, 1)
        mine = [self._own / steps, (now - self._since) / steps, late]
        hosts, wholes, lates = zip(*gathered(f"{self._name}: pace", mine), strict=True)
        whole = max(wholes)
        self._own, self._steps, self._since = 0.0, 0, now
        slowest = max(range(len(hosts)), key=hosts.__getitem__)
        usual = statistics.median(hosts[:slowest] + hosts[slowest + 1 :])
        metrics = {
            "step_seconds": whole,
            "host_seconds": usual,
            "slowest_host": float(slowest),
            "slowest_host_seconds": hosts[slowest],
        }
        return metrics, lates[0], self._warning(slowest, hosts[slowest], usual, whole)

    def saved(self) -> None:
        """Says that a checkpoint was saved."""
        self._saved = time.monotonic()

    def _warning(self, slowest: int, seconds: float, usual: float, whole: float) -> str:
        slow = seconds > _SLOW * usual and seconds - usual > _MATTERS * whole
        if not slow or slowest in self._named:
            return ""
        self._named.add(slowest)
        return (
            f"{self._name}: {called(slowest)} is slow: reading its rows takes it {seconds:.3g} s "
            f"a step, the others {usual:.3g} s, and all wait for it ({whole:.3g} s a step)"
        )
