"""The paper's step goes through the TPU compiler: here a small network on a small slice."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "model.unet3d.features=(32,)",
    "model.unet3d.blocks=(2,)",
    "model.unet3d.spatial=(True,)",
    "model.unet3d.temporal=(True,)",
    "model.unet3d.cross=(True,)",
    "model.unet3d.head_dim=32",
    "model.unet3d.cond_dim=64",
    "data.frames=4",
    "data.height=8",
    "data.width=16",
    "align.train.batch_size=8",
    "mesh.fsdp=2",
)


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install -e .[plan]"
)
def test_the_dpo_step_compiles_for_a_tpu_slice():
    command = [sys.executable, "benchmarks/compile_paper_step.py", "--topology=v5e:2x4"]
    command += [f"--config.{override}" for override in SMALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "8 rows of 2 clips (4, 8, 16, 3), bfloat16, v5e:2x4 (data 2 x fsdp 2 x context 2)" in (
        done.stdout
    )
    peak = float(re.search(r"peak memory: ([\d.]+) GiB", done.stdout)[1])
    assert 0 < peak < 15.75
    assert re.search(r"collectives: .*all-", done.stdout)  # gradients and parameters do move
