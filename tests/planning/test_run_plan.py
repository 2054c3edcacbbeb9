"""Times, money and words of a plan that was put together by hand; settings that are tried."""

import dataclasses

import pytest

from vidpref.config.by_name import ConfigError, named_config
from vidpref.planning import alternatives as searched
from vidpref.planning import planner
from vidpref.planning.calls import calls, drawn_clips
from vidpref.planning.chips import CARDS, CHIPS, GIB
from vidpref.planning.collectives import Collective
from vidpref.planning.compiling import Request
from vidpref.planning.flops import Flops
from vidpref.planning.program_plan import Memory, ProgramPlan, from_dict
from vidpref.planning.roofline import REACHED
from vidpref.planning.run_plan import RunPlan
from vidpref.planning.sweep import draw, sweep_text
from vidpref.planning.table import plan_text
from vidpref.planning.topologies import NoTopology, parse_topology

SLICE = parse_topology("v5e:2x2")
# a second of arithmetic, half of one of memory, a quarter of one of network
ALIGN = ProgramPlan(
    name="align",
    parameters=10**9,
    mesh={"data": 2, "fsdp": 2, "context": 1, "tensor": 1},
    memory=Memory(peak=12.0 * GIB, limit=15.75 * GIB, parts={"trained": 4.0 * GIB}),
    flops=Flops(4 * 197e12, 197e12, {"Net/a": 3 * 197e12, "Net/b": 197e12}),
    hlo_flops=197e12,
    traffic=819e9 / 2,
    collectives=(Collective("all-gather", "fsdp", 2, 40.0, 2 * 0.25 * 90e9),),
)


def plan(*programs, price=None):
    return RunPlan(
        config="dpo_aif:mini",
        overrides=(),
        topology=SLICE,
        programs=programs,
        calls={"align": 7200},
        price=price,
    )


def test_times_are_the_slowest_alone_and_all_after_each_other():
    found = plan(ALIGN, price=3.0)
    time = found.time(ALIGN)
    assert (time.compute, time.memory, time.network) == pytest.approx((1.0, 0.5, 0.25))
    assert time.bound == "compute"
    assert found.hours(ALIGN) == pytest.approx((2.0, 2 * 1.75 / REACHED))
    assert found.money(found.total_hours) == pytest.approx((24.0, 24 * 1.75 / REACHED))
    assert found.mfu(ALIGN) == pytest.approx(0.75)  # a quarter is computed again


def test_the_text_says_what_is_known():
    said = plan_text(plan(ALIGN, price=3.0))
    for part in (
        "dpo_aif:mini on v5e:2x2: 4 chips, 4 devices (data 2 x fsdp 2)",
        "12.00",
        "trained 4.00",
        "compute",
        "7200",
        "24 to 84",
        "1.33 of what the method needs",
        "Net/a 75%",
        "all-gather over fsdp (2): 40 of 41.910 GiB together",
        "Nothing was run",
    ):
        assert part in said, said


def test_what_compiles_and_cannot_be_read_has_memory_and_no_time():
    unread = dataclasses.replace(
        ALIGN, hlo_flops=None, traffic=None, collectives=(), unread="INTERNAL: RET_CHECK failure"
    )
    found = plan(unread, price=3.0)
    assert found.fits
    assert found.total_hours == (0.0, 0.0)
    said = plan_text(found)
    assert "12.00" in said
    assert "jaxlib cannot read what the compiler made" in said
    assert said.count("RET_CHECK failure") == 1
    assert "hours" not in said.split("Roofline")[0]


def test_what_does_not_fit_is_named():
    large = dataclasses.replace(
        ALIGN, memory=dataclasses.replace(ALIGN.memory, peak=20.0 * GIB), traffic=None
    )
    strange = ProgramPlan(name="sample", refused="no such kernel")
    found = plan(large, strange)
    assert not found.fits
    said = plan_text(found)
    assert "align does not fit: it needs 20.00 GiB of a device, which has 15.75" in said
    assert "sample cannot be: no such kernel" in said


def test_plans_survive_json():
    assert from_dict(ALIGN.to_dict()) == ALIGN
    assert from_dict(ProgramPlan(name="x", refused="y").to_dict()).refused == "y"
    assert plan(ALIGN).to_dict()["programs"][0]["seconds"]["from"] == pytest.approx(1.0)


def test_a_sweep_is_drawn(tmp_path):
    wide = dataclasses.replace(plan(ALIGN), topology=parse_topology("v5e:4x4"))
    draw([plan(ALIGN), wide], tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert [line.split()[:3] for line in sweep_text([plan(ALIGN), wide]).splitlines()[1:]] == [
        ["v5e:2x2", "4", "align"],
        ["v5e:4x4", "16", "align"],
    ]


def test_calls_are_those_of_the_config():
    config = named_config("dpo_aif:mini", ["rounds=2"])
    found = calls(config, prompts=500)
    assert found["align"] == 2 * 300
    assert found["pretrain"] == 600
    # two rounds of 400 x 8 clips, three policies compared on 250 and all 500 prompts by 4 clips
    clips = 2 * 400 * 8 + 3 * (250 + 500) * 4
    assert drawn_clips(config, prompts=500) == clips
    assert found["sample"] == -(-clips // 200)
    assert calls(config, 500, shards=128)["sample"] == -(-clips // 256)
    assert "sample" not in calls(named_config("dpo_aif"))  # only the data say how many prompts


def test_clips_that_an_alignment_draws_are_judged_too():
    given = ["align.online.group=4", "align.train.batch_size=8", "align.train.steps=10"]
    config = named_config("flow_grpo:mini", ["reward.name=video_reward", *given])
    found = calls(config, prompts=500)
    assert found["draw"] == found["align"] == 10
    at_once = config.reward.video_reward.batch_size
    assert found["score"] == -(-(drawn_clips(config, 500) + 10 * 8 * 4) // at_once)


def fake_compiler(monkeypatch, needs):
    """A compiler for which a program holds what `needs(overrides)` says; returns what was asked."""
    asked = []

    def compiled(request, say):
        asked.append(request.overrides)
        memory = dataclasses.replace(ALIGN.memory, peak=needs(request.overrides) * GIB)
        return [dataclasses.replace(ALIGN, memory=memory)]

    monkeypatch.setattr(searched, "compile_programs", compiled)
    return asked


def search(tries=10, overrides=("mesh.fsdp=1", "model.unet3d.remat=none")):
    memory = dataclasses.replace(ALIGN.memory, peak=30.0 * GIB)
    request = Request("dpo_aif:mini", "v5e:2x2", overrides)
    failed = plan(dataclasses.replace(ALIGN, memory=memory))
    return searched.alternatives(request, failed, tries=tries, say=lambda line: None)


def test_each_setting_is_tried_from_the_smallest_until_it_fits(monkeypatch):
    asked = fake_compiler(monkeypatch, lambda overrides: 10 if "mesh.fsdp=4" in overrides else 20)
    found = search()
    assert found.fitting == [(("mesh.fsdp=4",), 10 * GIB)]
    assert ("mesh.fsdp=2",) in found.failed
    assert ("model.unet3d.remat=full",) in found.failed
    assert ("model.unet3d.remat=offload",) in found.failed
    assert ("align.train.accumulate=8",) in found.failed
    assert all(one[:2] == ("mesh.fsdp=1", "model.unet3d.remat=none") for one in asked)
    assert "fits with --config.mesh.fsdp=4: 10.00 GiB" in found.text


def test_where_none_helps_alone_all_are_tried_together(monkeypatch):
    def needs(overrides):
        all_of_them = {"mesh.fsdp=4", "align.train.accumulate=8", "model.unet3d.remat=offload"}
        return 10 if all_of_them <= set(overrides) else 20

    fake_compiler(monkeypatch, needs)
    (setting, peak), *others = search(tries=20).fitting
    assert not others
    assert {"mesh.fsdp=4", "model.unet3d.remat=offload"} <= set(setting)
    assert peak == 10 * GIB


def test_tries_end_and_what_is_left_is_said(monkeypatch):
    asked = fake_compiler(monkeypatch, lambda overrides: 20)
    found = search(tries=2)
    assert len(asked) == len(found.failed) == 2
    assert found.left
    assert "not tried (--tries): --config." in found.text
    assert "Nothing that was tried fits" in found.text


def test_what_a_judge_can_change_is_tried():
    config = named_config("videoreward", ["judge.score_batch=32"])
    found = [list(knob) for knob in searched._knobs(config, ("judge", "score"), 8)]
    settings = [setting for knob in found for setting in knob]
    assert ("judge.remat=offload",) in settings
    assert ("judge.train.accumulate=4",) in settings
    assert ("judge.score_batch=8",) in settings
    assert not [one for one in settings if one[0].startswith(("model.", "align."))]
    config = named_config("flow_dpo:mini", ["reward.name=video_reward"])
    *_, last = (list(knob) for knob in searched._knobs(config, ("score",), 4))
    assert last == [("reward.video_reward.batch_size=4",)]


def test_of_each_kind_the_fewest_that_it_fits_on_are_listed(monkeypatch):
    asked = []

    def compiled(request, say):
        asked.append(request.topology)
        topology = parse_topology(request.topology)
        if topology.name.startswith("gpu"):
            raise NoTopology("its compiler is not here")
        if topology.chip.name == "v2":
            raise ConfigError("64 rows do not divide")
        limit = topology.chip.limit
        for name in ("align", "sample"):
            peak = 64 * GIB / topology.devices if name == "align" else 2 * GIB
            memory = Memory(peak=peak, limit=limit, parts={})
            yield dataclasses.replace(ALIGN, name=name, memory=memory)

    monkeypatch.setattr(planner, "compile_programs", compiled)
    request = Request("dpo_aif:mini", "")
    found = dict(line.split(": ", 1) for line in planner.fitting(request, say=print))
    assert list(found) == [*CHIPS, *CARDS]
    assert found["v5e"] == "fits on v5e:2x4; align holds the most, 8.00 of 15.75 GiB"
    assert found["v2"] == "no (64 rows do not divide)"
    assert found["gpu24"] == "not known (its compiler is not here)"
    assert [name for name in asked if name.startswith("v5e")] == ["v5e:1x1", "v5e:2x2", "v5e:2x4"]
