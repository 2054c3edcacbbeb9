"""The benchmark of metrics runs, and counts what a network has."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = "--metrics=optical_flow:small --clips=1 --frames=2 --batch=1 --rounds=1"


def test_a_metric_is_timed():
    command = [sys.executable, "benchmarks/metrics.py", *TINY.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "1 clips of 2 frames of 24x40" in done.stdout
    assert re.search(r"^optical_flow:small +1\.0M +[\d.]+ +[\d.]+ +[\d.]+$", done.stdout, re.M)
