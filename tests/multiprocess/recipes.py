"""Whole recipes on several processes, and what two of them have in common."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.end_to_end.tiny import TINY
from vidpref.stages.label import read_labels
from vidpref.stages.sample import read_clips

ROOT = Path(__file__).parents[2]
DEVICES = 4  # of all processes together
HOSTS = ("hosts.heartbeat_seconds=15",)
# Large steps, as clips of a network that has hardly learnt are their first frame and nothing else.
# They count by a graded score, of which no two have the same.
FIELDS = (
    *TINY,
    *HOSTS,
    "pretrain.train.steps=4",
    "pretrain.train.checkpoint_every=2",
    "pretrain.train.ema_decay=0.5",
    "pretrain.train.optimizer.learning_rate=0.03",
    "pretrain.train.optimizer.warmup_steps=0",
    "align.train.steps=4",
    "align.train.checkpoint_every=2",
    "align.train.optimizer.learning_rate=0.01",
    "align.train.optimizer.warmup_steps=0",
    "align.reward.visual_quality=1.0",
    "align.normalize_reward=True",
    "align.gamma=3.0",
    "label.per_prompt=3",
    "evaluate.train_prompts=2",
    "evaluate.test_prompts=3",
    "evaluate.per_prompt=2",
)
RWR = ("--config=rwr_aif:mini", *(f"--config.{field}" for field in FIELDS))


def attempt(
    hosts: int,
    workdir: Path | str,
    *more: str,
    program: str = "tpu_run",
    argv: Sequence[str] = RWR,
    kill: Mapping | None = None,
    cache: Path | None = None,
) -> dict:
    """A program on so many processes, of `DEVICES` devices together or of one each.

    Args:
        hosts: number of processes.
        workdir: the work directory.
        *more: further flags.
        program: a name in launch/.
        argv: its flags.
        kill, cache: see `recipe_worker`.
    """
    return {
        "hosts": hosts,
        "devices": max(DEVICES // hosts, 1),
        "program": program,
        "argv": [*argv, *more, f"--workdir={workdir}"],
        "kill": kill,
        "cache": None if cache is None else str(cache),
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


def finished_stages(workdir: Path) -> list[str]:
    """The folders of the stages that are done."""
    return sorted(path.parent.name for path in workdir.glob("*-*/done.json"))


def assert_same_run(one: Path, other: Path, *, exactly: bool) -> dict[str, float]:
    """Clips, labels, parameters, metrics and evaluation are the same.

    Where not `exactly`, numbers that come from a network may differ by rounding, and pixels by 1 of
    255. Clips of the same pixels have the same verdict in any case; of the others one verdict of a
    stage may differ, as a clip can lie on the edge of a rule.

    Returns:
        What differs: the share of pixels, the norm of parameters (relative), the largest of
        numbers, and the number of verdicts.
    """
    found = {"pixels": 0.0, "parameters": 0.0, "numbers": 0.0, "verdicts": 0}
    rounded: dict[str, set[str]] = {}  # ids of the clips of other pixels, by what was sampled
    counted = True  # verdicts of the evaluation are the same, so its rates are

    def numbers(a: Any, b: Any, rounding: float) -> None:
        found["numbers"] = max(found["numbers"], _difference(a, b))
        _assert_close(a, b, 0.0 if exactly else rounding)

    assert finished_stages(one) == finished_stages(other)
    assert finished_stages(one)
    for name in sorted(finished_stages(one), key=lambda name: name.startswith("label-")):
        a, b = one / name, other / name
        kind, _, sampled = name.rpartition("-")[0].partition("-")
        if kind == "sample":
            share, rounded[sampled] = _same_clips(a, b, exactly)
            found["pixels"] = max(found["pixels"], share)
        elif kind == "label":
            labels = [read_labels(folder).drop(columns="rationale") for folder in (a, b)]
            assert labels[0]["clip_id"].tolist() == labels[1]["clip_id"].tolist()
            turned = labels[0]["clip_id"][labels[0]["accept"] != labels[1]["accept"]]
            assert set(turned) <= rounded.get(sampled, set())
            assert len(turned) <= 1
            found["verdicts"] += len(turned)
            counted = counted and not (len(turned) and sampled.startswith("evaluation-"))
            others = [frame[~frame["clip_id"].isin(turned)].to_dict("list") for frame in labels]
            numbers(*others, 1e-3)
        elif (a / "metrics.jsonl").exists():
            numbers(*(_training(folder) for folder in (a, b)), 3e-3)
            kind = next(kind for kind in ("params", "adapters") if (a / kind).exists())
            changed = apart(*(_parameters(folder / kind) for folder in (a, b)))
            assert changed <= (0.0 if exactly else 5e-3), name
            found["parameters"] = max(found["parameters"], changed)
    if (one / "evaluation.json").exists() and counted:
        numbers(*(json.loads((w / "evaluation.json").read_text()) for w in (one, other)), 1e-3)
    return found


def _training(folder: Path) -> list[dict[str, float]]:
    """Metrics of every step, without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    known = [name for name in lines[0] if "seconds" not in name and "host" not in name]
    return [{name: line[name] for name in known} for line in lines]


def _same_clips(one: Path, other: Path, exactly: bool) -> tuple[float, set[str]]:
    """The share of pixels that differ, and the ids of the clips that have such."""
    a, b = read_clips(one), read_clips(other)
    assert a.index.equals(b.index)
    name = next(name for name in ("video", "latent") if name in a[0])
    changed = []
    for number in range(len(a)):
        assert a[number]["clip_id"] == b[number]["clip_id"]
        x, y = (clips[number][name].astype(np.float64) for clips in (a, b))
        largest = 1.0 if name == "video" else 1e-2
        assert np.abs(x - y).max() <= (0 if exactly else largest)
        changed.append((x != y).mean())
    ids = {a[number]["clip_id"] for number, share in enumerate(changed) if share}
    return float(np.mean(changed)), ids


def apart(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """The norm of the difference of all parameters, relative.

    Single ones may differ by more: Adam makes whole steps of gradients that are but rounding.
    """
    assert one.keys() == other.keys()
    difference = sum(float(((one[name] - other[name]) ** 2).sum()) for name in one)
    return math.sqrt(difference / sum(float((values**2).sum()) for values in one.values()))


def _parameters(path: Path) -> dict[str, np.ndarray]:
    with ocp.StandardCheckpointer() as checkpointer:
        known = checkpointer.metadata(path.resolve()).item_metadata.tree
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), known
        )
        found = checkpointer.restore(path.resolve(), target)
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _difference(a: Any, b: Any) -> float:
    """The largest difference of numbers in the same places, relative where they are large."""
    if isinstance(a, Mapping):
        return max((_difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list):
        return max((_difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, float) and a != b:
        return abs(a - b) / max(1.0, abs(a))
    return 0.0


def _assert_close(a: Any, b: Any, rounding: float) -> None:
    """Everything but numbers with a fraction is equal, and these but for rounding."""
    if isinstance(a, Mapping):
        assert a.keys() == b.keys()
        for key in a:
            _assert_close(a[key], b[key], rounding)
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_close(x, y, rounding)
    elif isinstance(a, float):
        np.testing.assert_allclose(b, a, rtol=rounding, atol=rounding)
    else:
        assert a == b
