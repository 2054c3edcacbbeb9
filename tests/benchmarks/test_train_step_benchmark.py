"""The benchmark of the training step runs, and its contenders agree."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmark_programs import imported

pytest.importorskip("diffusers")
pytest.importorskip("peft")

train_step = imported("train_step")

ROOT = Path(__file__).resolve().parents[2]
TINY = "--heads=2 --head_dim=12 --layers=2 --frames=2 --height=4 --width=4 --text_tokens=3"


@pytest.mark.parametrize("lora_rank", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_contenders_agree_and_are_timed(lora_rank):
    options = f"{TINY} --lora_rank={lora_rank} --device=cpu --nocompile --rounds=2 --nounroll"
    options += " --attention=xla" + (" --breakdown" if lora_rank else "")
    command = [sys.executable, "benchmarks/train_step.py", *options.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^\| (\w+, \w+) \| [\d.]+ \([\d.]+-[\d.]+\) \| [\d.]+ ", done.stdout, re.MULTILINE
    )
    assert rows == ["vidpref, xla", "diffusers, eager"]
    assert ("attention to the clip" in done.stdout) == bool(lora_rank)


@pytest.mark.parametrize("changed", [None, "forward", "loss", "grad_norm"])
def test_contenders_that_disagree_are_refused(changed):
    def contender(name, **change):
        values = {"forward": 1.0, "loss": 1.0, "grad_norm": 1.0} | change
        step = {key: values[key] for key in ("loss", "grad_norm")}
        return train_step.Contender(name, lambda: np.full(3, values["forward"]), lambda: step)

    other = contender("other", **({changed: 1.001} if changed else {}))
    contenders = [contender("diffusers, eager"), other]
    if changed is None:
        train_step.check_agreement(contenders, 1e-4)
        return
    with pytest.raises(ValueError, match=f"nothing is timed: other: {changed} by 1.0e-03"):
        train_step.check_agreement(contenders, 1e-4)
