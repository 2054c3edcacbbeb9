"""The benchmark of attention runs, and its contenders agree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
TINY = "--batch=1 --tokens=12 --heads=2 --head_dim=4 --chunks=3,6 --rounds=2"


def test_contenders_agree_and_are_timed():
    command = [sys.executable, "benchmarks/attention.py", *TINY.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (.*?) \| \S+ \(", done.stdout, re.MULTILINE)
    chunks = [f"chunks of {n}" for n in (3, 6)]
    assert rows == ["whole", *chunks, f"{chunks[-1]} by jax.checkpoint", "PyTorch"]
