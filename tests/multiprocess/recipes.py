"""Whole recipes on several processes, and what two of them have in common."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.end_to_end.tiny import TINY
from vidpref.stages.label import read_labels
from vidpref.stages.sample import read_clips

ROOT = Path(__file__).parents[2]
DEVICES = 4  # of all processes together
# gamma = 1, so that the weights are not all zero where a tiny model earns no reward
RWR = ("--config=rwr_aif:mini", "--config.align.gamma=1.0")
FIELDS = (
    *TINY,
    "pretrain.train.checkpoint_every=2",
    "align.train.checkpoint_every=2",
    "label.per_prompt=3",
    "evaluate.train_prompts=2",
    "evaluate.test_prompts=3",
    "evaluate.per_prompt=2",
    "hosts.heartbeat_seconds=5",
)


def attempt(
    hosts: int,
    workdir: Path,
    *more: str,
    program: str = "tpu_run",
    argv: Sequence[str] = RWR,
    kill: Mapping | None = None,
) -> dict:
    """A run on so many processes, of `DEVICES` devices together or of one each.

    Args:
        hosts: number of processes.
        workdir: the work directory.
        *more: overrides of the config.
        program: a name in launch/.
        argv: its flags.
        kill: {"after": seconds, "ranks": [..], "signal": number}.
    """
    fields = [f"--config.{override}" for override in (*FIELDS, *more)]
    return {
        "hosts": hosts,
        "devices": max(DEVICES // hosts, 1),
        "workdir": str(workdir),
        "program": program,
        "argv": [*argv, *fields],
        "kill": kill,
    }


def run_all(plan: Path, attempts: Sequence[Mapping]) -> list[dict]:
    """Runs attempts one after another; returns the exit codes and seconds of each."""
    plan.write_text(json.dumps(attempts))
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(ROOT),
    }
    worker = ROOT / "tests" / "multiprocess" / "recipe_worker.py"
    subprocess.run(
        [sys.executable, "-W", "ignore", str(worker), str(plan)], env=environment, check=True
    )
    return json.loads(plan.with_suffix(".ended.json").read_text())


def said(plan: Path, number: int, rank: int = 0) -> str:
    """What a process of an attempt printed."""
    return plan.with_name(f"{plan.stem}-{number}-{rank}.txt").read_text()


def assert_same_run(one: Path, other: Path, *, exactly: bool) -> None:
    """Clips, labels, parameters and evaluation are the same; to rounding where not `exactly`."""
    folders = [sorted(p.parent.name for p in w.glob("*-*/done.json")) for w in (one, other)]
    assert folders[0] == folders[1]
    assert folders[0]
    for name in folders[0]:
        a, b = one / name, other / name
        if name.startswith("sample-"):
            _same_clips(a, b, exactly)
        elif name.startswith("label-"):
            labels = [read_labels(folder) for folder in (a, b)]
            assert labels[0]["clip_id"].tolist() == labels[1]["clip_id"].tolist()
            np.testing.assert_array_equal(labels[0]["accept"], labels[1]["accept"])
        elif (a / "params").exists():
            _same_parameters(a / "params", b / "params", 0.0 if exactly else 1e-4)
    texts = [(workdir / "evaluation.json").read_text() for workdir in (one, other)]
    assert texts[0] == texts[1]


def _same_clips(one: Path, other: Path, exactly: bool) -> None:
    a, b = read_clips(one), read_clips(other)
    assert a.index.equals(b.index)
    for number in range(len(a)):
        assert a[number]["clip_id"] == b[number]["clip_id"]
        x, y = (clips[number]["video"].astype(int) for clips in (a, b))
        assert np.abs(x - y).max() <= (0 if exactly else 1)


def _same_parameters(one: Path, other: Path, tolerance: float) -> None:
    trees = []
    for path in (one, other):
        with ocp.StandardCheckpointer() as checkpointer:
            known = checkpointer.metadata(path.resolve()).item_metadata.tree
            here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            target = jax.tree.map(
                lambda x, here=here: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), known
            )
            found = checkpointer.restore(path.resolve(), target)
            leaves = jax.tree_util.tree_leaves_with_path(found)
        trees.append({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
    assert trees[0].keys() == trees[1].keys()
    for name, value in trees[0].items():
        np.testing.assert_allclose(
            trees[1][name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )
