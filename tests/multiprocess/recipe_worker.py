"""Runs a whole recipe on several processes, again and again: `python recipe_worker.py PLAN.json`.

The plan is a list of attempts, each a dict:

    hosts    number of processes
    devices  virtual devices of each
    workdir  the work directory
    program  a name in launch/
    argv     its flags
    kill     {"after": seconds, "ranks": [..], "signal": number}, or null

Everything is imported once; every process is a fork of this one, which is joined to the others as a
program is. How they ended goes to PLAN.ended.json, what each said to PLAN-ATTEMPT-RANK.txt.
"""

import importlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import jax

from vidpref.runs import command_line, compare, report, rounds  # noqa: F401 - imported before the forks
from vidpref.stages import data


def make_the_world_small() -> None:
    """Few clips, as in the tests of whole recipes."""
    builder = data.import_from_checkout(
        data.PROJECT_ROOT / "data" / "miniworld" / "miniworld_dataset_builder.py"
    )
    builder.Miniworld.BUILDER_CONFIGS = [
        builder.MiniworldConfig(name=c.name, pretrain_clips=64, scenes_per_prompt=1,
                                high_resolution=c.high_resolution, camera=c.camera)
        for c in builder.Miniworld.BUILDER_CONFIGS
    ]  # fmt: skip


def compile_once(start_devices):
    """Keeps every program, however small: each attempt would compile it again."""

    def start(workdir, configs=()):
        start_devices(workdir, configs)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    return start


def host(attempt: dict, rank: int, port: int, log: Path) -> None:
    """In a fork: runs the program."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={attempt['devices']}"
    if attempt["hosts"] > 1:
        os.environ |= {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(attempt["hosts"]),
            "JAX_PROCESS_ID": str(rank),
        }
    program = importlib.import_module(f"launch.{attempt['program']}")
    sys.argv = [f"{attempt['program']}.py", *attempt["argv"], f"--workdir={attempt['workdir']}"]
    command_line.launch(program.main)


def run(attempt: dict, name: str) -> dict:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    begin, pids = time.monotonic(), {}
    for rank in range(attempt["hosts"]):
        pid = os.fork()
        if pid == 0:
            host(attempt, rank, port, Path(f"{name}-{rank}.txt"))  # ends by SystemExit
            os._exit(0)
        pids[pid] = rank
    codes: list[int | None] = [None] * len(pids)
    seconds, kill, sent = [0.0] * len(pids), attempt.get("kill"), 0.0
    while pids:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            rank = pids.pop(pid)
            codes[rank] = os.waitstatus_to_exitcode(status)
            seconds[rank] = time.monotonic() - begin
        if kill and not sent and time.monotonic() - begin > kill["after"]:
            sent = time.monotonic() - begin
            for pid in [pid for pid, rank in pids.items() if rank in kill["ranks"]]:
                os.kill(pid, kill["signal"])
        if time.monotonic() - begin > 1500:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return {"codes": codes, "seconds": seconds, "sent": sent}


if __name__ == "__main__":
    plan = Path(sys.argv[1])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    make_the_world_small()
    command_line.start_devices = compile_once(command_line.start_devices)
    ended = [
        run(attempt, str(plan.with_name(f"{plan.stem}-{number}")))
        for number, attempt in enumerate(json.loads(plan.read_text()))
    ]
    plan.with_suffix(".ended.json").write_text(json.dumps(ended))
