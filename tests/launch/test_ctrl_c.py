"""Ctrl-C ends a program in one line with status 130, wherever it comes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE = "stopped; the same command goes on\n"

# A launch program whose work is in WORK; it says when it begins.
PROGRAM = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from vidpref.runs import command_line, interrupts

def begin():
    print("begun", flush=True)

def work():
    WORK

interrupts._GRACE = SECONDS
sys.argv = ["program"]
command_line.launch(lambda overrides: work())
"""

WORKS = {
    "in the main thread": "begin(); time.sleep(60)",
    # the pool waits for its threads, once it knows them, before the KeyboardInterrupt gets out
    "while threads work": """
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda seconds: (time.sleep(0.3), begin(), time.sleep(seconds)), [60]))
""",
    # as compiling and waiting for devices do
    "where no handler runs": """
    lock = threading.Lock()
    def hold():
        begin()
        threading.Event().wait()
    threading.Thread(target=hold).start()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)
""",
    "where a library makes another error of it": """
    begin()
    try:
        time.sleep(60)
    except KeyboardInterrupt as error:
        raise RuntimeError("INTERNAL: callback failed") from error
""",
    "where a library makes an error of the user of it": """
    begin()
    try:
        time.sleep(60)
    except KeyboardInterrupt as error:
        raise ValueError("no") from error
""",
    "and a thread breaks by it": """
    stopped = threading.Event()
    def broken():
        stopped.wait()
        raise RuntimeError("cannot schedule new futures")
    thread = threading.Thread(target=broken)
    thread.start()
    begin()
    try:
        time.sleep(60)
    finally:
        stopped.set()
        thread.join()
""",
}


def start(work, grace=0.3):
    source = PROGRAM.replace("WORK", work.strip("\n").lstrip() if "\n" in work else work)
    run = subprocess.Popen(
        [sys.executable, "-c", source.replace("SECONDS", str(grace))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert run.stdout.readline() == "begun\n", run.stderr.read()
    return run


@pytest.mark.parametrize("where", WORKS)
def test_ctrl_c_is_one_line_and_status_130(where):
    run = start(WORKS[where])
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=20)
    assert (run.returncode, said) == (130, LINE)


def test_a_second_ctrl_c_ends_at_once():
    run = start(WORKS["while threads work"], grace=30)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=5)
    assert (run.returncode, said) == (130, LINE)


def test_sigterm_ends_with_the_status_that_job_managers_know():
    run = start(WORKS["in the main thread"])
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=10) == 128 + signal.SIGTERM


def test_an_error_of_ours_keeps_its_traceback():
    run = start("begin(); {}['x']")
    _, said = run.communicate(timeout=20)
    assert run.returncode == 1
    assert "Traceback" in said
    assert "KeyError: 'x'" in said


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        ("begin(); open('/dev')", "IsADirectoryError: /dev: is a directory\n"),
        ("begin(); open('/no/such')", "FileNotFoundError: /no/such: no such file or directory\n"),
        (
            "begin(); from vidpref.rewards.reward import JudgeError; raise JudgeError('no answer')",
            "JudgeError: no answer\n",
        ),
    ],
)
def test_what_a_user_can_mend_is_a_sentence(work, sentence):
    run = start(work)
    _, said = run.communicate(timeout=60)
    assert (run.returncode, sentence in said) == (1, True)
    assert "Traceback" not in said
