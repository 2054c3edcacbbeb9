"""Stages of several runs: counted together, with those kept in one line and the time left."""

import json

import pytest

from vidpref.runs.counted import CountedStages, kind
from vidpref.runs.graph import Stage


def stage(name, causes, **inputs):
    return Stage(name, lambda folder: (folder / "made").write_text(name), causes, inputs)


def graph(methods=("sft", "dpo+beta=1e-4")):
    """Two methods that share their data: five stages of three kinds, six steps to `go`."""
    data = stage("data", {})
    runs = {}
    for name in methods:
        align = stage(f"align-{name}-round1", {"method": name}, data=data)
        runs[name] = [data, align, stage(f"sample-evaluation-{name}", {}, policy=align)]
    return runs


def go(workdir, runs, stop=99):
    said = []
    counted = CountedStages(workdir, said.append)
    counted.plan(s for stages in runs.values() for s in stages)
    for name, stages in runs.items():
        for one in stages:
            if stop == 0:
                return said, counted
            counted.run(name, one)
            stop -= 1
    counted.tell_kept()
    return said, counted


def spend(workdir, seconds):
    """Lets finished stages have taken so long, by kind."""
    for path in workdir.glob("*/done.json"):
        path.write_text(json.dumps({"seconds": seconds[kind(path.parent.name)]}))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("align-dpo+beta=1e-4-round1", "align"),
        ("sample-evaluation-dpo-0123456789ab", "sample-evaluation"),
        ("label-train-pretrained", "label-train"),
        ("pretrain", "pretrain"),
        ("pretrain-0123456789ab", "pretrain"),
    ],
)
def test_kinds(name, expected):
    assert kind(name) == expected


def test_every_stage_is_counted_once(tmp_path):
    said, counted = go(tmp_path, graph())
    assert [line.split("]")[0].split(",")[0] for line in said] == [f"[{i}/5" for i in range(1, 6)]
    assert said[3].split("] ")[1].startswith("dpo+beta=1e-4: align-dpo+beta=1e-4-round1: into ")
    assert len(counted.used) == 5
    # what this process did is not an earlier run's, whichever method asks for it
    assert not counted.run("sft", graph()["sft"][0]).reused


def test_what_is_kept_is_one_line(tmp_path):
    go(tmp_path, graph(), stop=2)
    said, _ = go(tmp_path, graph())
    assert said[0] == "[2 stages kept]"
    assert said[1].startswith("[3/5")
    assert len(said) == 4
    assert go(tmp_path, graph())[0] == ["[5 stages kept]"]
    assert len(list(tmp_path.glob("*/made"))) == 5


def test_time_left_is_the_mean_of_each_kind(tmp_path):
    go(tmp_path, graph(), stop=2)
    spend(tmp_path, {"data": 5.0, "align": 100.0})
    said, _ = go(tmp_path, graph(), stop=3)
    # an align stage more, and two of a kind that was never done
    assert said[1].startswith("[3/5, at least 1 min 40 s left] ")
    spend(tmp_path, {"data": 5.0, "align": 100.0, "sample-evaluation": 10.0})
    said, _ = go(tmp_path, graph(), stop=5)
    assert said[1].startswith("[4/5, about 1 min 50 s left] ")
    spend(tmp_path, {"data": 5.0, "align": 100.0, "sample-evaluation": 10.0})
    assert go(tmp_path, graph())[0][1].startswith("[5/5, about 10 s left] ")


def test_a_new_plan_takes_the_place_of_the_old(tmp_path):
    said = []
    counted = CountedStages(tmp_path, said.append)
    first, second = graph()["sft"], graph(["dpo"])["dpo"]
    counted.plan(first)
    counted.run("sft", first[0])
    counted.plan([*first, *second])
    for one in [*first, *second]:
        counted.run("both", one)
    assert [line[: len("[1/5")] for line in said] == ["[1/3", "[2/5", "[3/5", "[4/5", "[5/5"]


def test_why_a_stage_is_new_is_said_unless_the_other_is_of_the_same_plan(tmp_path):
    def seeds(values, steps):
        return {f"seed {s}": [stage("pretrain", {"seed": s, "steps": steps})] for s in values}

    said, _ = go(tmp_path, seeds([0, 1], 10))
    assert all("seed: 0 -> 1" not in line for line in said)
    said, _ = go(tmp_path, seeds([0], 20))
    assert said[0].endswith("(steps: 10 -> 20)")
