"""Two processes divide the clips of an evaluation, and come to what one comes to."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd

from tests.tiny_pipelines import tiny_wan
from tests.two_processes import ROOT, run_two
from vidpref.datasets.miniworld import PROMPTS
from vidpref.datasets.video import decode_frames

WORKER = "tests/multiprocess/evaluate_worker.py"


def test_two_processes_evaluate_as_one_does(tmp_path):
    tiny_wan(tmp_path / "pipe")
    texts = [prompt.text for prompt in PROMPTS[::400]]
    (tmp_path / "prompts.txt").write_text("\n".join(texts))
    run_two(WORKER, tmp_path / "pipe", tmp_path / "two", devices=2)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "training")])
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    env |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    alone = [sys.executable, str(ROOT / WORKER), "0", "0", tmp_path / "pipe", tmp_path / "one"]
    subprocess.run(alone, env=env, check=True, timeout=600)
    one, two = (pd.read_csv(tmp_path / name / "clips.csv") for name in ("one", "two"))
    assert one["before"].tolist() == two["before"].tolist()
    assert len(one) == 6
    for name in one["before"]:
        first, second = (decode_frames(tmp_path / n / name, 0)[0] for n in ("one", "two"))
        assert np.abs(first.astype(int) - second).mean() < 1.0  # levels
    # no adapter: before and after are the same clips, and each was written once
    assert len(list((tmp_path / "two").rglob("*.mp4"))) == 12
    scores = ["verifier: visual quality, before", "verifier: visual quality, after"]
    np.testing.assert_allclose(one[scores], two[scores], atol=0.02, equal_nan=True)
    assert (tmp_path / "two" / "report.html").exists()
