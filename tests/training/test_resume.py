"""A run that is killed anywhere, and started again, ends with the same bits."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tiny_training as tiny

from vidpref.training.metrics import METRICS_FILE, read_metrics

STEPS = 120
ROOT = Path(__file__).parents[2]


def run_and_kill(workdir, after_lines):
    """Starts the program and kills it when its metrics have so many lines, and a moment later."""
    command = [sys.executable, tiny.__file__, str(workdir), str(STEPS)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    metrics = workdir / METRICS_FILE
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= after_lines:
            time.sleep(random.uniform(0, 0.02))
            break
        time.sleep(0.002)
    process.kill()
    return process.wait()


def test_sigkill_at_random_moments(tmp_path):
    whole = tiny.main(tmp_path / "whole", STEPS)
    # sorted, as the second start goes on from what the first has done; it may die before that
    moments = sorted(random.sample(range(5, STEPS - 60), 2))
    for moment in moments:
        assert run_and_kill(tmp_path / "killed", moment) == -9, f"killed at lines {moments}"
    parts = tiny.main(tmp_path / "killed", STEPS)
    for name in ("params", "opt_state", "ema"):
        jax.tree.map(
            lambda a, b: np.testing.assert_array_equal(a, b, err_msg=f"killed at {moments}"),
            getattr(parts, name),
            getattr(whole, name),
        )
    assert read_metrics(tmp_path / "killed") == read_metrics(tmp_path / "whole")
