"""A work directory in a bucket is held by one run at a time: an object that only one can create.

No operating system lets go of it when a run is killed. So its holder writes it anew every
`RENEWED` seconds, and one that was not written for `STALE` seconds may be taken over; whether it
is, whoever waits sees for himself, whatever the clocks of the two machines say. A holder that could
not renew it for so long writes nothing any more.
"""

import dataclasses
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from vidpref.storage.bucket import Bucket, Content, StorageError

RENEWED, STALE = 20.0, 120.0  # seconds
_POLLS = 10  # between two renewals


class LeaseHeld(OSError):
    """Another run holds the lease; the message names its process, host and age."""


class LeaseLost(OSError):
    """The lease was not renewed in time, and another run may have taken it over."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        host: name of the machine.
        pid: number of the process.
        kernel: what tells whether numbers of processes mean the same: boot and namespace.
        token: of this lease alone.
        since: seconds since 1970 when it was taken, by the holder's clock.
    """

    host: str
    pid: int
    kernel: str
    token: str
    since: float

    def known_dead(self) -> bool:
        """Whether it is a process of this machine, and gone."""
        if (self.host, self.kernel) != (os.uname().nodename, _kernel()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


class Lease:
    """Holds an object of a bucket, from `take` to `release`.

    Args:
        bucket: where it lies.
        name: of the object.
        renewed: seconds between two renewals.
        stale: seconds without one after which it may be taken over.
        say: told once that somebody else's lease is waited for.
    """

    def __init__(
        self,
        bucket: Bucket,
        name: str = "lock",
        *,
        renewed: float = RENEWED,
        stale: float = STALE,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ):
        self._bucket, self._name = bucket, name
        self._renewed, self._stale, self._say = renewed, stale, say
        self.holder = Holder(os.uname().nodename, os.getpid(), _kernel(), uuid.uuid4().hex, 0.0)
        self._generation, self._until = 0, 0.0
        self._lost = self._told = False
        self._ended, self._thread = threading.Event(), None

    def take(self) -> None:
        """Takes the lease and renews it from then on, in a thread.

        Raises:
            LeaseHeld: another run holds it, as a renewal shows.
            StorageError: the bucket cannot be read or written.
        """
        self.holder = dataclasses.replace(self.holder, since=time.time())
        start, seen = time.monotonic(), None
        while not self._put(0 if seen is None else self._free(seen, start)):
            now = self._bucket.read(self._name)
            if now is None:
                seen = None
                continue
            if read_holder(now).token == self.holder.token:  # put, and the answer was lost
                self._generation = now.generation
                break
            if seen is None:
                seen = now
            elif now.generation != seen.generation:
                raise LeaseHeld(self._in_use(now))
            elif self._free(seen, start) is None:
                if time.monotonic() - start > self._renewed / _POLLS:
                    self._say_once(seen)
                time.sleep(self._renewed / _POLLS)
        self._until = time.monotonic() + self._stale
        self._thread = threading.Thread(target=self._run, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        """Returns while the lease is held.

        Raises:
            LeaseLost: it may not be any more.
        """
        if self._lost or time.monotonic() > self._until:
            raise LeaseLost(
                f"{self._bucket.address}: this run could not renew its lease for "
                f"{self._stale:.0f} s, or another run took it over, so it writes nothing any more. "
                "See to the network; the same command goes on from what is saved."
            )

    def release(self) -> None:
        """Ends the lease, for others to take it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        try:
            now = self._bucket.read(self._name)
            if now is not None and read_holder(now).token == self.holder.token:
                self._bucket.delete(self._name, generation=now.generation)
        except StorageError as error:  # it will be stale
            self._say(str(error))

    def _put(self, over: int | None) -> bool:
        """Whether the object is ours now; `over` None: not to be tried."""
        if over is None:
            return False
        try:
            data = json.dumps(dataclasses.asdict(self.holder)).encode()
            self._generation = self._bucket.put(self._name, data, over=over)
        except FileExistsError:
            return False
        return True

    def _free(self, seen: Content, start: float) -> int | None:
        """The generation of a lease that may be taken over; None where it may not."""
        waited = time.monotonic() - start
        old = seen.age > self._stale or waited > self._stale
        return seen.generation if old or read_holder(seen).known_dead() else None

    def _run(self) -> None:
        while not self._ended.wait(self._renewed):
            asked = time.monotonic()
            try:
                if not self._put(self._generation):
                    now = self._bucket.read(self._name)
                    if now is None or read_holder(now).token != self.holder.token:
                        self._lost = True
                        return
                    self._generation = now.generation
                self._until = asked + self._stale
            except StorageError:
                continue  # `check` says when it has been too long

    def _in_use(self, now: Content) -> str:
        holder = read_holder(now)
        held = _duration(max(0.0, time.time() - holder.since))
        return (
            f"{self._bucket.address} is in use by another run (process {holder.pid} on "
            f"{holder.host}, which began {held} ago and renewed its lease {now.age:.0f} s ago). "
            "Wait for it, stop it, or give this run another --workdir."
        )

    def _say_once(self, seen: Content) -> None:
        if self._told:
            return
        self._told, holder = True, read_holder(seen)
        self._say(
            f"{self._bucket.address}: waiting whether process {holder.pid} on {holder.host} still "
            f"holds it; its lease is free {self._stale:.0f} s after the last renewal"
        )


def read_holder(content: Content) -> Holder:
    """Returns who holds a lease, of what its object holds."""
    try:
        return Holder(**json.loads(content.data))
    except (ValueError, TypeError):  # not of ours: nobody renews it
        return Holder("unknown", 0, "", "", 0.0)


def _kernel() -> str:
    """The same for all processes whose numbers mean the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
