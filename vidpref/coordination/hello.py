"""Before jax connects its hosts: who is there, who is missing, and whether all run the same.

jax aborts every process where one of them does not come in time, and does not say which. So the
hosts say hello first, at the address where jax's service will be: a line of JSON each over TCP, to
host 0, which answers when all are there.
"""

import collections
import contextlib
import dataclasses
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Mapping
from io import BufferedRWPair
from typing import Any

from vidpref.coordination.clusters import Cluster
from vidpref.coordination.store import HostsError, numbers_text

_SAY_EVERY = 15.0
_LONGEST = 2**22  # bytes of a hello
_SHOWN = 3  # differences that a message names


@dataclasses.dataclass(frozen=True)
class Hello:
    """What a host says of itself.

    Attributes:
        index: its number.
        count: how many hosts it believes there are.
        machine: its name.
        process: its process id there.
        about: what should be the same on all hosts, by name.
    """

    index: int
    count: int
    machine: str
    process: int
    about: Mapping[str, str]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"host {self.index} ({self.machine})"


def meet(cluster: Cluster, about: Mapping[str, str], seconds: float) -> dict[int, str]:
    """Waits until every host has said hello; returns the machine of each.

    Args:
        cluster: which host this is, and where host 0 is.
        about: what should be the same on all hosts, by name.
        seconds: how long to wait.

    Raises:
        HostsError: in all hosts that are there: some are missing, two have the same number, or one
            differs from the others.
    """
    mine = Hello(cluster.index, cluster.count, socket.gethostname(), os.getpid(), about)
    if cluster.index == 0:
        return _receive(cluster, mine, seconds)
    return _say(cluster, mine, seconds)


def differences(hellos: Mapping[int, Hello]) -> str:
    """Returns which host is not as most are, and in what; "" where all are alike.

    Of two hosts, or where as many are one way as the other, host 0 is how it should be.
    """
    ways = collections.Counter(_key(hello.about) for hello in hellos.values())
    most = max(ways.values())
    usual = next(h for _, h in sorted(hellos.items()) if ways[_key(h.about)] == most)
    odd = [h for _, h in sorted(hellos.items()) if _key(h.about) != _key(usual.about)]
    lines = []
    for hello in odd[:_SHOWN]:
        names = sorted(n for n in {*usual.about, *hello.about} if _differ(usual, hello, n))
        shown = [
            f"{n} is {hello.about.get(n, 'missing')} there and {usual.about.get(n, 'missing')} on "
            f"{usual.name}"
            for n in names[:_SHOWN]
        ]
        more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"{hello.name} is not like the others: {'; '.join(shown)}{more}")
    if not lines:
        return ""
    more = f" So are {len(odd) - _SHOWN} more hosts." if len(odd) > _SHOWN else ""
    return f"{'. '.join(lines)}.{more} Give all hosts the same command, code, packages and data."


def _differ(a: Hello, b: Hello, name: str) -> bool:
    return a.about.get(name) != b.about.get(name)


def _key(about: Mapping[str, str]) -> str:
    return json.dumps(dict(about), sort_keys=True)


# Host 0.


def _receive(cluster: Cluster, mine: Hello, seconds: float) -> dict[int, str]:
    lines: dict[int, BufferedRWPair] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listening(cluster.bind_address, seconds))
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(server, selectors.EVENT_READ)
        try:
            hellos = _collect(server, selector, stack, mine, lines, seconds)
            if wrong := differences(hellos):
                raise HostsError(wrong)
        except HostsError as error:
            _answer_all(lines, {"error": str(error)})
            raise
        names = {index: hello.machine for index, hello in hellos.items()}
        _answer_all(lines, {"names": names})
        for line in lines.values():  # they close first, which leaves the port free for jax
            with contextlib.suppress(OSError):
                line.readline()
    return names


def _collect(
    server: socket.socket,
    selector: selectors.BaseSelector,
    stack: contextlib.ExitStack,
    mine: Hello,
    lines: dict[int, BufferedRWPair],
    seconds: float,
) -> dict[int, Hello]:
    """Everybody's hello; `lines` gets the connection of each, also of those before an error."""
    hellos, start, said = {0: mine}, time.monotonic(), 0.0
    while len(hellos) < mine.count:
        waited = time.monotonic() - start
        missing = [i for i in range(mine.count) if i not in hellos]
        who = f"waiting for {numbers_text(missing, mine.count)}"
        if waited > seconds:
            raise HostsError(
                f"{who}: not there after {seconds:.0f} s. Start the same command on every host and "
                "see what the missing ones say; config.hosts.start_seconds sets how long to wait."
            )
        if waited - said > _SAY_EVERY:
            print(f"{who} ({waited:.0f} s)", file=sys.stderr, flush=True)
            said = waited
        for key, _ in selector.select(timeout=0.5):
            if key.fileobj is server:
                connection, _ = server.accept()
                connection.settimeout(5.0)
                stack.enter_context(connection)
                selector.register(connection, selectors.EVENT_READ)
                continue
            selector.unregister(key.fileobj)
            line = key.fileobj.makefile("rwb")
            stack.callback(_close, line)
            if (hello := _read(line)) is None:
                continue  # something else knocked
            known = hellos.get(hello.index)
            if known is None or (known.machine, known.process) == (hello.machine, hello.process):
                lines[hello.index] = line
            else:
                lines[mine.count] = line
            _check(hello, known, mine)
            hellos[hello.index] = hello
    return hellos


def _check(hello: Hello, known: Hello | None, mine: Hello) -> None:
    if hello.count != mine.count or not 0 <= hello.index < mine.count:
        raise HostsError(
            f"{hello.name} counts {hello.count} hosts and {mine.name} {mine.count}: give "
            "JAX_NUM_PROCESSES the same number everywhere, and numbers from 0 to JAX_PROCESS_ID"
        )
    if known and (known.machine, known.process) != (hello.machine, hello.process):
        raise HostsError(
            f"two hosts have the number {hello.index}: process {known.process} on {known.machine} "
            f"and process {hello.process} on {hello.machine}; JAX_PROCESS_ID must differ"
        )


def _listening(address: str, seconds: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = "" if host in ("", "[::]", "0.0.0.0") else host.strip("[]")
    six = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if six or ":" in host else socket.AF_INET
    end = time.monotonic() + min(seconds, 20.0)  # as a run that was just stopped may hold it
    while True:
        try:
            return socket.create_server((host, int(port)), family=family, dualstack_ipv6=six)
        except OSError as error:
            if time.monotonic() > end:
                raise HostsError(
                    f"host 0 cannot listen at {address} ({error.strerror}): another run may be "
                    "there. Stop it, or give JAX_COORDINATOR_ADDRESS or JAX_COORDINATOR_PORT "
                    "another port, on all hosts."
                ) from error
            time.sleep(0.5)


def _answer_all(lines: Mapping[int, BufferedRWPair], answer: dict[str, Any]) -> None:
    for line in lines.values():
        with contextlib.suppress(OSError):
            line.write(f"{json.dumps(answer)}\n".encode())
            line.flush()


def _close(line: BufferedRWPair) -> None:
    with contextlib.suppress(OSError):
        line.close()


def _read(line: BufferedRWPair) -> Hello | None:
    try:
        return Hello(**json.loads(line.readline(_LONGEST)))
    except (OSError, ValueError, TypeError):
        return None


# The other hosts.


def _say(cluster: Cluster, mine: Hello, seconds: float) -> dict[int, str]:
    host, _, port = cluster.address.rpartition(":")
    start, said, why = time.monotonic(), 0.0, ""
    while (waited := time.monotonic() - start) < seconds:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as server:
                # host 0 waits for the others as long as it likes, and answers in any case
                server.settimeout(seconds + 60.0)
                line = server.makefile("rwb")
                line.write(f"{json.dumps(dataclasses.asdict(mine))}\n".encode())
                line.flush()
                answer = json.loads(line.readline() or b"{}")
        except (OSError, ValueError) as error:
            answer, why = {}, str(error)
        if "error" in answer:
            raise HostsError(answer["error"])
        if "names" in answer:
            return {int(index): name for index, name in answer["names"].items()}
        if waited - said > _SAY_EVERY:
            text = f"{mine.name}: waiting for host 0 of {mine.count} at {cluster.address}"
            print(f"{text} ({waited:.0f} s)", file=sys.stderr, flush=True)
            said = waited
        time.sleep(0.3)
    raise HostsError(
        f"waiting for host 0 of {mine.count}: {cluster.address} does not answer after "
        f"{seconds:.0f} s ({why or 'no answer'}). Start the same command there, and see that its "
        "port is open; config.hosts.start_seconds sets how long to wait."
    )
