"""Runs a whole recipe on several processes, again and again: `python recipe_worker.py PLAN.json`.

The plan is a list of attempts, each a dict:

    hosts    number of processes
    devices  virtual devices of each
    program  a name in launch/
    argv     its flags
    cache    folder with one for each process to bring a bucket's files into, or null
    kill     {"after": seconds, "ranks": [..], "signal": number}, or null; instead of seconds
             "share", of those that the first attempt took

Everything is imported once; every process is a fork of this one, which is joined to the others as a
program is. Programs are compiled once for all attempts, into PLAN's folder. How they ended goes to
PLAN.ended.json, what each said to PLAN-ATTEMPT-RANK.txt.
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
import numpy as np

from tests.end_to_end.tiny import few_clips
from vidpref.rewards.registry import REWARDS, RewardSpec
from vidpref.rewards.reward import Judgement
from vidpref.runs import command_line, compare, export, report, rounds  # noqa: F401 - before forks

_LONGEST = 1500.0  # seconds of an attempt


class Movement:
    """Scores how much of a clip is another than in its first frame, and accepts about half of them.

    No two clips have the same score, however little a network has learnt.
    """

    dimensions = ("accept", "visual_quality")

    def score(self, clips, prompts):
        moved = np.abs(clips.astype(np.float64) - clips[:, :1]).mean(axis=(1, 2, 3, 4)) / 255
        scores = {"accept": 1000 * moved % 1 > 0.5, "visual_quality": moved}
        return Judgement(
            {name: np.asarray(values, np.float32) for name, values in scores.items()},
            [f"moves {value:.4f}" for value in moved],
        )


def compile_once(start_devices, folder: Path):
    """Keeps every program, however small: each attempt would compile it again."""

    def start(workdir, configs=()):
        start_devices(workdir, configs)
        jax.config.update("jax_compilation_cache_dir", str(folder))
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
    if attempt.get("cache"):
        os.environ["VIDPREF_CACHE"] = f"{attempt['cache']}/{rank}"
    program = importlib.import_module(f"launch.{attempt['program']}")
    sys.argv = [f"{attempt['program']}.py", *attempt["argv"]]
    command_line.launch(program.main)


def run(attempt: dict, name: str, first: float) -> dict:
    """Runs an attempt; returns exit codes, seconds of each process, and when a signal was sent.

    Args:
        attempt: see above.
        name: path of the plan and number of the attempt.
        first: seconds of the first attempt.
    """
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
    after = kill and (kill["after"] if "after" in kill else kill["share"] * first)
    while pids:
        pid, status = os.waitpid(-1, os.WNOHANG)
        now = time.monotonic() - begin
        if pid:
            rank = pids.pop(pid)
            codes[rank] = os.waitstatus_to_exitcode(status)
            seconds[rank] = now
        if kill and not sent and now > after:
            sent = now
            for pid in [pid for pid, rank in pids.items() if rank in kill["ranks"]]:
                os.kill(pid, kill["signal"])
        stopped = kill and kill["signal"] == signal.SIGSTOP and {*pids.values()} <= {*kill["ranks"]}
        if now > _LONGEST or (sent and stopped):
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return {"codes": codes, "seconds": seconds, "sent": sent}


if __name__ == "__main__":
    plan = Path(sys.argv[1])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    builder, builder.Miniworld.BUILDER_CONFIGS = few_clips()
    REWARDS["verifier"] = RewardSpec(lambda *_: Movement())
    compiled = plan.with_name("compiled")
    command_line.start_devices = compile_once(command_line.start_devices, compiled)
    ended: list[dict] = []
    for number, attempt in enumerate(json.loads(plan.read_text())):
        first = max(ended[0]["seconds"]) if ended else 0.0
        ended.append(run(attempt, str(plan.with_name(f"{plan.stem}-{number}")), first))
        plan.with_suffix(".ended.json").write_text(json.dumps(ended))
