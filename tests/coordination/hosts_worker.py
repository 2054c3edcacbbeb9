"""Pairs of hosts, each pair a case: `python hosts_worker.py OUT CASE...`.

Everything is imported once; every case is a fork of two processes, whose output goes to files of
OUT, and whose exit codes and seconds to `OUT/ended.json`.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from tests.end_to_end.tiny import TINY, few_clips
from vidpref.config.by_name import named_config
from vidpref.coordination.agreeing import barrier, decided, gathered
from vidpref.coordination.stalls import watched_steps
from vidpref.runs import command_line
from vidpref.runs.graph import Stage, run_stage
from vidpref.runs.workdir import locked
from vidpref.stages.data import build_data, open_data
from vidpref.training.pace import Pace
from vidpref.training.preemption import Preempted, PreemptionNotice

FAST = ["hosts.start_seconds=20", "hosts.heartbeat_seconds=5", "hosts.barrier_seconds=3"]


def start(folder: Path, *overrides: str) -> None:
    config = named_config("dpo_aif:mini", [*FAST, *overrides])
    command_line.start_devices(folder, [config])


def everything(rank: int, folder: Path) -> None:
    """What works: the file says what each saw."""
    start(folder)
    ran, said = [], []
    stage = Stage("number", lambda path: ran.append((path / "n.txt").write_text("1")), {"seed": 1})
    with locked(folder):
        found = {
            "decided": decided("a", lambda: {"by": rank, "large": "x" * 6_000_000}) | {"large": 0},
            "gathered": gathered("b", [rank, 0.1 + rank]),
            "sum": np.asarray(multihost_utils.process_allgather(jnp.ones(2) * rank)).sum().item(),
        }
        run_stage(stage, folder, said.append)
        found["again"] = run_stage(stage, folder, said.append).reused
    barrier("the end of the case")
    found |= {"ran": len(ran), "said": said}
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


def raises_while_the_other_waits_at_a_barrier(rank: int, folder: Path) -> None:
    start(folder)
    if rank == 1:
        raise ValueError("config.x=1: wrong")
    barrier("never reached")


def raises_while_the_other_computes(rank: int, folder: Path) -> None:
    start(folder)
    if rank == 0:
        time.sleep(1)
        raise TypeError("a defect")
    multihost_utils.sync_global_devices("never reached")


def raises_in_a_decision(rank: int, folder: Path) -> None:
    start(folder)

    def decide() -> None:
        raise FileNotFoundError(2, "No such file or directory", "clips.csv")

    decided("the clips", decide)


def is_sent(signum: int, victim: int) -> Callable[[int, Path], None]:
    def case(rank: int, folder: Path) -> None:
        start(folder)
        barrier("both are there")
        if rank == victim:
            os.kill(os.getpid(), signum)
        decided("never", lambda: time.sleep(60)) if victim else barrier("never")

    return case


def comes_late_to_a_barrier(rank: int, folder: Path) -> None:
    start(folder)
    if rank == 1:
        time.sleep(20)
    barrier("the sample stage")


def differs(rank: int, folder: Path) -> None:
    start(folder, *(["align.beta=7"] if rank else []))


def is_alone(rank: int, folder: Path) -> None:
    if rank == 1:
        return
    start(folder, "hosts.start_seconds=2")


def has_a_disk_of_its_own(rank: int, folder: Path) -> None:
    start(folder)
    import vidpref.runs.workdir as workdirs

    workdirs._SHARED_AFTER = 0.5
    with locked(folder / f"disk-{rank}"):
        pass


def is_in_use(rank: int, folder: Path) -> None:
    start(folder)
    with open(folder / "lock", "a+") as other_run:
        if rank == 0:
            fcntl.flock(other_run, fcntl.LOCK_EX)
        with locked(folder):
            pass


def is_asked_to_stop(rank: int, folder: Path) -> None:
    start(folder)
    with PreemptionNotice() as notice:
        for step in range(1, 400):
            if step == 10 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if notice.came():
                (folder / f"step-{rank}.txt").write_text(str(step))
                time.sleep(2 * rank)  # host 0 is done with saving before host 1
                raise Preempted("stopped and saved")
            time.sleep(0.02)
            gathered("a step", step)


def is_asked_to_stop_outside_of_steps(rank: int, folder: Path) -> None:
    start(folder)
    with PreemptionNotice() as notice:
        notice.came()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    barrier("never") if rank == 0 else time.sleep(60)


def ends_its_steps_before_it_stops(rank: int, folder: Path) -> None:
    start(folder)
    with PreemptionNotice() as notice:
        barrier("the last step")
        stopped = notice.came()
        if rank == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # all agree on the next step, which never comes
    (folder / f"never-{rank}-{stopped}").touch()


def hangs(rank: int, folder: Path) -> None:
    start(folder, "hosts.stall_minutes=0.03")
    with watched_steps("align") as watchdog:
        for _ in range(3):
            watchdog.step()
            barrier("a step")
        time.sleep(60 if rank == 1 else 0)  # the one that hangs
        barrier("never")


def is_slow(rank: int, folder: Path) -> None:
    start(folder)
    pace, said = Pace("align", 2, 1e-9), []
    for step in range(1, 7):
        with pace.own_work():
            time.sleep(0.2 * rank)
        said.append(pace.at(step))
    (folder / f"found-{rank}.json").write_text(json.dumps(said))
    barrier("the end of the case")


def builds_data(rank: int, folder: Path) -> None:
    start(folder, "hosts.barrier_seconds=60")
    builder, builder.Miniworld.BUILDER_CONFIGS = few_clips()
    config = named_config("dpo_aif:mini", TINY)
    build_data(config, folder)
    found = open_data(config, folder)
    (folder / f"found-{rank}.json").write_text(json.dumps([len(found.clips)]))


CASES = {
    "everything": everything,
    "raises_at_barrier": raises_while_the_other_waits_at_a_barrier,
    "raises_in_collective": raises_while_the_other_computes,
    "raises_in_decision": raises_in_a_decision,
    "kill_1": is_sent(signal.SIGKILL, 1),
    "kill_0": is_sent(signal.SIGKILL, 0),
    "frozen_0": is_sent(signal.SIGSTOP, 0),
    "frozen_1": is_sent(signal.SIGSTOP, 1),
    "late": comes_late_to_a_barrier,
    "differs": differs,
    "alone": is_alone,
    "own_disk": has_a_disk_of_its_own,
    "in_use": is_in_use,
    "preempted": is_asked_to_stop,
    "stopped_outside": is_asked_to_stop_outside_of_steps,
    "stopped_late": ends_its_steps_before_it_stops,
    "hangs": hangs,
    "slow": is_slow,
    "data": builds_data,
}


def host(case: str, rank: int, port: int, folder: Path) -> None:
    """In a fork: runs a case as a program does."""
    log = os.open(folder / f"said-{rank}.txt", os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(rank),
    }
    sys.argv = [case]
    command_line.launch(lambda overrides: CASES[case](rank, folder))


def run(case: str, out: Path) -> dict[str, list]:
    folder = out / case
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    begin, pids = time.monotonic(), {}
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            host(case, rank, port, folder)
            os._exit(0)
        pids[pid] = rank
    codes, seconds = [None, None], [None, None]
    end = begin + 90
    while pids and time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            rank = pids.pop(pid)
            codes[rank] = os.waitstatus_to_exitcode(status)
            seconds[rank] = time.monotonic() - begin
            end = time.monotonic() + 30
        time.sleep(0.05)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {"codes": codes, "seconds": seconds}


if __name__ == "__main__":
    out, cases = Path(sys.argv[1]), sys.argv[2:] or list(CASES)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    ended = {case: run(case, out) for case in cases}
    (out / "ended.json").write_text(json.dumps(ended))
