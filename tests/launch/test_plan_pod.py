"""The planner as a program: a small run through the compiler of a TPU, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

from tests import tpu_compiler
from tests.end_to_end.tiny import TINY
from tests.launch.programs import Launcher
from vidpref.planning import alternatives, planner
from vidpref.planning.chips import CARDS, CHIPS, GIB
from vidpref.planning.flops import Flops
from vidpref.planning.program_plan import Memory, ProgramPlan
from vidpref.planning.topologies import parse_topology

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


@pytest.fixture
def half_of_it_split(monkeypatch, capsys):
    """The program, with a compiler for which 16 GiB lie on each device, and 32 over fsdp."""

    def compiled(request, say):
        say(f"compiling for {request.topology}")
        topology = parse_topology(request.topology)
        chosen = [one.split("=")[1] for one in request.overrides if one.startswith("mesh.fsdp=")]
        fsdp = int(chosen[-1]) if chosen else topology.devices
        yield ProgramPlan(
            name="align",
            mesh={"data": topology.devices // fsdp, "fsdp": fsdp, "context": 1, "tensor": 1},
            memory=Memory(
                peak=(16 + 32 / fsdp) * GIB,
                limit=topology.chip.limit,
                parts={"trained": 5.0 * GIB},
            ),
            flops=Flops(total=1e15, rematerialized=0.0, modules={}),
            traffic=1e9,
        )

    launched = Launcher(monkeypatch, capsys)
    for module in (planner, alternatives):
        monkeypatch.setattr(module, "compile_programs", compiled)
    return launched


def test_without_a_topology_the_fewest_of_each_kind_that_it_fits_on_are_listed(half_of_it_split):
    outcome = half_of_it_split("plan_pod", "--config=dpo_aif:mini")
    assert outcome.status == 0
    lines = [line for line in outcome.text.splitlines() if not line.startswith("[")]
    assert [line.split(":")[0] for line in lines] == [*CHIPS, *CARDS]
    assert lines[2] == "v4: fits on v4:2x2x1; align holds the most, 24.00 of 30.75 GiB"
    assert lines[3] == "v5e: no (align does not fit)"  # 16 GiB and more, of 15.75
    assert "gpu24: fits on gpu24:8; align holds the most, 20.00 of 22.32 GiB" in lines


def test_what_does_not_fit_ends_with_1_and_the_next_setting_that_does(half_of_it_split, tmp_path):
    path = tmp_path / "plan.json"
    outcome = half_of_it_split(
        "plan_pod",
        "--config=dpo_aif:mini",
        "--topology=gpu24:8",
        f"--json={path}",
        "--config.mesh.fsdp=2",
        "--config.model.unet3d.remat=offload",
        "--config.align.train.batch_size=8",
    )
    assert outcome.status == 1
    assert "align does not fit: it needs 32.00 GiB of a device, which has 22.32" in outcome.text
    assert "does not fit with --config.mesh.fsdp=4\n" in outcome.text
    assert "fits with --config.mesh.fsdp=8: 20.00 GiB" in outcome.text
    found = json.loads(path.read_text())
    assert not found["fits"]
    assert found["alternatives"]["fitting"] == [[["mesh.fsdp=8"], 20 * GIB]]


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
