"""The planner as a program: a small run through the compiler of a TPU, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

from tests import tpu_compiler
from tests.end_to_end.tiny import TINY

ALL = ["align", "pretrain", "sample"]


def planned(*arguments, code=0):
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    done = subprocess.run(
        [sys.executable, "launch/plan_pod.py", *arguments],
        cwd=tpu_compiler.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def tiny(*more):
    return [f"--config.{field}" for field in (*TINY, "mesh.fsdp=2", *more)]


@tpu_compiler.needs_libtpu
@pytest.mark.parametrize(
    "programs", [["align"], pytest.param(ALL, marks=pytest.mark.slow)], ids=["align", "all"]
)
def test_a_small_run_is_planned(programs, tmp_path):
    path = tmp_path / "plan.json"
    said = planned(
        "--config=dpo_aif:mini",
        "--topology=v5e:2x2",
        f"--programs={','.join(programs)}",
        "--price=2",
        f"--json={path}",
        *tiny(),
    )
    assert "4 chips, 4 devices (data 2 x fsdp 2)" in said
    plan = json.loads(path.read_text())
    assert [program["name"] for program in plan["programs"]] == programs
    assert plan["fits"]
    align = plan["programs"][0]
    memory = align["memory"]
    assert {"trained", "optimizer", "reference", "batch"} == set(memory["parts"])
    assert sum(memory["parts"].values()) < memory["peak"] < memory["limit"]
    # the reference is a forward pass, the policy three times one
    assert align["flops"]["rematerialized"] == 0
    assert 0.5 < 4 * align["hlo_flops"] / align["flops"]["total"] < 1.5
    kinds = {one["kind"] for one in align["collectives"]}
    assert kinds & {"all-reduce", "reduce-scatter"}
    assert {one["axes"] for one in align["collectives"]} <= {"data", "fsdp", "data+fsdp"}
    assert align["calls"] == 6
    assert 0 < align["seconds"]["from"] <= align["seconds"]["to"]
    assert plan["money"][0] == pytest.approx(8 * plan["hours"][0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--topology=v3:8x8"], "--config=NAME[:SCALE] is missing"),
        (["--config=dpo_aif:mini", "--topology=v9:8x8"], "--topology=v9:8x8"),
        (["--config=dpo_iaf:mini", "--topology=v3:8x8"], "no config named 'dpo_iaf'"),
        (["--config=dpo_aif:mini", "--topology=v3:2x2", "--sweep=v3:4x4"], "give one of them"),
        (["--config=dpo_aif:mini", "--sweep=v5e:4x4,v5e:5x5"], "--topology=v5e:5x5"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(arguments, said):
    found = planned(*arguments, code=1)
    assert said in found
    assert "Traceback" not in found


@pytest.mark.slow
@tpu_compiler.needs_libtpu
def test_a_mesh_that_does_not_divide_is_refused():
    found = planned("--config=dpo_aif:mini", "--topology=v5e:2x2", "--config.mesh.fsdp=3", code=1)
    assert "there are 4" in found
