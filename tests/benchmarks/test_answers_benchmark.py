"""The benchmark of answers runs, and both sides give the same ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
TINY = "--size=small --layers=1 --vocab=128 --rows=2 --answers=2 --length=4 --words=5 --rounds=1"


def test_answers_agree_and_are_timed():
    command = [sys.executable, "benchmarks/answers.py", *TINY.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 prompts of 39 tokens, answers of 4 tokens; 100% of the greedy" in done.stdout
    rows = re.findall(
        r"^\| (\w+) \| [\d.]+ \([\d.]+-[\d.]+\) \| [\d.]+ ", done.stdout, re.MULTILINE
    )
    assert rows == ["transformers", "vidpref"]
    assert re.findall(r"^(\w+) reads [\d.]+ clips a second", done.stdout, re.MULTILINE) == rows
