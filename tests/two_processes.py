"""Runs a worker script as several processes, each with virtual devices of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

from vidpref.coordination.agreeing import barrier
from vidpref.coordination.clusters import Cluster
from vidpref.coordination.ending import ending_together
from vidpref.coordination.joining import join

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def joined(rank: int, port: int, count: int = 2) -> Iterator[None]:
    """In a worker: makes one run of all processes, which an error in one of them ends."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with ending_together(lambda error: False):
        join(
            Cluster("run_many", f"localhost:{port}", count, rank),
            {},
            start_seconds=200.0,
            heartbeat_seconds=200.0,
            barrier_seconds=600.0,
        )
        yield
        barrier("the end")


def run_two(worker: str, *arguments: object, devices: int = 2) -> None:
    """Calls `python WORKER RANK PORT ARGUMENTS...` for ranks 0 and 1; see `run_many`."""
    run_many(2, worker, *arguments, devices=devices)


def run_many(count: int, worker: str, *arguments: object, devices: int) -> None:
    """Calls `python WORKER RANK PORT ARGUMENTS...` for every rank; all must end well.

    Args:
        count: number of processes.
        worker: path below the project's root.
        *arguments: of the script.
        devices: of each process.
    """
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(3):
            codes, outputs = _attempt(count, worker, arguments, devices, compiled)
            # Gloo gives up after 30 s where a busy machine lets one process compile much longer
            # than the other; what is compiled by then serves the next attempt.
            if "Gloo context initialization failed" not in "".join(outputs):
                break
    assert codes == [0] * count, "\n".join(output[-5000:] for output in outputs)


def _attempt(
    count: int, worker: str, arguments: tuple[object, ...], devices: int, compiled: str
) -> tuple[list[int], list[str]]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "training")]),
    }
    with tempfile.TemporaryDirectory() as out:
        forks = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "forks.py")]
        words = [str(word) for word in (count, port, out, ROOT / worker, *arguments)]
        parent = subprocess.Popen([*forks, *words], env=environment, start_new_session=True)
        try:
            assert parent.wait(timeout=900) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
        outputs = [(Path(out) / f"{rank}.txt").read_text() for rank in range(count)]
        return json.loads((Path(out) / "codes.json").read_text()), outputs
