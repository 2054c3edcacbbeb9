"""The table of plans in docs/pods.md: of every shipped config, and as the kept plans say."""

import json

import pytest
from claimed.blocks import fill

from tests.benchmark_programs import imported
from vidpref.config.by_name import (
    PROJECT_ROOT,
    config_module,
    config_names,
    judge_names,
    named_config,
)
from vidpref.planning.chips import GIB
from vidpref.planning.flops import Flops
from vidpref.planning.program_plan import Memory, ProgramPlan
from vidpref.planning.topologies import parse_topology

plans = imported("plans")
DOCUMENT = (PROJECT_ROOT / "docs" / "pods.md").read_text()
KEPT = json.loads((PROJECT_ROOT / "docs" / "plans.json").read_text())


def row(on="v3:8x8", peak=5.0, name="align"):
    program = ProgramPlan(
        name=name,
        mesh={"data": 16, "fsdp": 8},
        memory=Memory(peak=peak * GIB, limit=15.48 * GIB, parts={}),
        flops=Flops(128 * 61.5e12, 0.0, {f"Net/{n}": 1e12 for n in range(20)}),
        hlo_flops=0.0,
        traffic=0.0,
        cpu_seconds=40.0,
        host_bytes=2.0 * GIB,
    )
    return plans._row(program, on)


def test_every_shipped_config_has_a_topology_that_there_is():
    shipped = plans.shipped()
    scales = [
        f"{name}:{scale}"
        for name in (*config_names(), *judge_names())
        for scale in config_module(name).SCALES
        if scale != "mini"
    ]
    assert [spec for spec in shipped if "@" not in spec] == scales
    assert "flow_dpo:wan2_1_1_3b@24gb" in shipped
    for spec, topology in shipped.items():
        assert parse_topology(topology).name == topology
        named_config(spec)


def test_the_document_has_the_table_of_the_kept_plans():
    assert fill(DOCUMENT, {plans._BLOCK: plans.table(KEPT)}) == DOCUMENT
    assert all(f"`{spec}`" in DOCUMENT for spec in plans.shipped())


def test_kept_plans_are_rows_and_the_rest_is_named():
    kept = {
        "dpo_aif:paper": {"align": row(), "sample": row(peak=20.0, name="sample")},
        "rwr_aif:paper": {"align": row(on="v4:2x2x1")},  # planned on other hardware before
    }
    header, _, found, _, left = plans.table(json.loads(json.dumps(kept))).splitlines()
    cells = found.strip("| ").split(" | ")
    assert len(cells) == len(header.strip("| ").split(" | "))
    assert cells[:4] == ["`dpo_aif:paper`", "v3:8x8", "5.00 of 15.48", "sample 20.00 (too much)"]
    assert cells[4:6] == ["1 to 2", "100%"]  # a second at the peak of a core, two at half of it
    assert cells[6] == "80 s, 2.0 GiB"
    assert "libtpu" in cells[7]
    assert left.startswith("Not yet planned: ")
    assert "`rwr_aif:paper`" in left
    assert "`dpo_aif:paper`" not in left


def test_of_a_program_are_kept_the_modules_that_cost_most():
    modules = row()["program"]["flops"]["modules"]
    assert modules.pop("others") == pytest.approx(12e12)
    assert len(modules) == 8
