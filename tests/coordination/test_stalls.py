"""A run that hangs says where, and one that is told to stop ends in a line."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIGNAL = """
import os, signal
from vidpref.coordination.stalls import show_stacks_on_signal
show_stacks_on_signal()
def where_it_is():
    os.kill(os.getpid(), signal.SIGUSR1)
where_it_is()
print("goes on")
"""
HANG = """
import time
from vidpref.coordination import stalls
with stalls.watched_steps("sample") as nobody:
    assert nobody is None
stalls.give_up_after(0.01)
def where_it_hangs():
    time.sleep(60)
with stalls.watched_steps("sample") as watchdog:
    for _ in range(4):
        time.sleep(0.3)
        watchdog.step()
    where_it_hangs()
"""
TERMINATED = """
import os, signal, time
from vidpref.coordination import stopping
from vidpref.runs.interrupts import ending_in_a_line
with ending_in_a_line():
    with stopping.steps():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        print("saves", stopping.came(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def run(program: str) -> tuple[int, str, str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


def test_a_signal_shows_where_every_thread_is():
    code, out, err = run(SIGNAL)
    assert (code, out) == (0, "goes on\n")
    assert "in where_it_is" in err


def test_a_run_without_steps_shows_where_it_is_and_ends():
    code, _, err = run(HANG)
    assert code == 143
    assert "sample: no step for 0.01 minutes, after 4 in this process" in err
    assert "in where_it_hangs" in err


def test_sigterm_waits_for_a_step_and_ends_what_has_none():
    code, out, err = run(TERMINATED)
    assert code == 143
    assert out == "saves True\n"
    assert err.strip().splitlines() == ["stopped; the same command goes on"]
