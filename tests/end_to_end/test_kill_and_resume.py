"""SIGKILL anywhere, the same command again: the same bits as a run that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.end_to_end.tiny import TINY
from vidpref.stages.sample import read_clips

ROOT = Path(__file__).resolve().parents[2]

FIELDS = (
    *TINY,
    "pretrain.train.checkpoint_every=2",
    "align.train.checkpoint_every=2",
    "align.gamma=1.0",  # so that the weights are not all zero where a tiny model earns no reward
    "label.per_prompt=8",
)
COMMAND = [
    sys.executable,
    "launch/tpu_run.py",
    "--config=rwr_aif:mini",
    *(f"--config.{field}" for field in FIELDS),
]


def _start(workdir: Path) -> subprocess.Popen:
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(workdir: Path) -> str:
    run = _start(workdir)
    output, _ = run.communicate()
    assert run.returncode == 0, output
    return output


def _kill_when(workdir: Path, reached: Callable[[], bool]) -> None:
    run = _start(workdir)
    while not reached():
        assert run.poll() is None, f"ended before it could be killed:\n{run.stdout.read()}"
        time.sleep(0.002)
    time.sleep(random.random() * 0.2)
    run.send_signal(signal.SIGKILL)
    run.communicate()


def _steps(workdir: Path, stage: str) -> list[int]:
    text = "".join(path.read_text() for path in workdir.glob(f"{stage}-*/metrics.jsonl"))
    return [json.loads(line)["step"] for line in text.splitlines() if line.endswith("}")]


def _parameters(workdir: Path, stage: str) -> dict[str, np.ndarray]:
    (folder,) = workdir.glob(f"{stage}-*/params")
    with ocp.StandardCheckpointer() as checkpointer:
        leaves = jax.tree_util.tree_leaves_with_path(checkpointer.restore(folder.resolve()))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _videos(workdir: Path, stage: str) -> np.ndarray:
    (folder,) = workdir.glob(f"{stage}-*")
    clips = read_clips(folder)
    return np.stack([clips[i]["video"] for i in range(len(clips))])


def test_killed_three_times_the_result_is_bit_equal(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    output = _finish(straight)
    assert output.splitlines()[-1] == f"report: {straight}/report.html"

    in_pretrain, in_align = random.randint(1, 5), random.randint(1, 5)
    _kill_when(killed, lambda: len(_steps(killed, "pretrain")) >= in_pretrain)
    _kill_when(killed, lambda: any(killed.glob("sample-train-*/clips-*.array_record")))
    _kill_when(killed, lambda: len(_steps(killed, "align-rwr-round1")) >= in_align)
    _finish(killed)

    for stage in ("pretrain", "align-rwr-round1"):
        expected, found = _parameters(straight, stage), _parameters(killed, stage)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{stage} {name}")
        assert _steps(killed, stage) == [1, 2, 3, 4, 5, 6]  # one line a step, killed or not
    for stage in ("sample-train-pretrained", "sample-evaluation-rwr"):
        np.testing.assert_array_equal(_videos(straight, stage), _videos(killed, stage))
    straight_numbers, killed_numbers = (
        (workdir / "evaluation.json").read_text() for workdir in (straight, killed)
    )
    assert straight_numbers == killed_numbers
