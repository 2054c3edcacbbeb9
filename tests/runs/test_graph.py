"""Stages are done once, redone when a cause changes, and resumed when they broke off."""

import json

import pytest

from vidpref.runs.graph import Stage, finished, in_order, run_stage, state_of, why_new


def chain(log, *, steps=1, beta=1.0):
    def body(name):
        return lambda folder: log.append(name) or (folder / "out.txt").write_text(name)

    first = Stage("pretrain", body("pretrain"), {"train.steps": steps})
    return first, Stage("align", body("align"), {"align.beta": beta}, {"policy": first})


def run(workdir, stages, said=None):
    say = (lambda line: None) if said is None else said.append
    return [run_stage(stage, workdir, say) for stage in in_order(stages)]


def test_a_finished_stage_is_not_redone(tmp_path):
    log, said = [], []
    first, _ = run(tmp_path, chain(log))
    again, _ = run(tmp_path, chain(log), said)
    assert log == ["pretrain", "align"]
    assert (first.reused, again.reused) == (False, True)
    assert (again.path, again.seconds) == (first.path, pytest.approx(first.seconds, abs=1e-3))
    assert said[0] == f"done before, kept in {first.path.name}"


def test_a_changed_cause_redoes_exactly_what_depends_on_it(tmp_path):
    log = []
    run(tmp_path, chain(log))
    run(tmp_path, chain(log, beta=2.0))
    assert log == ["pretrain", "align", "align"]
    run(tmp_path, chain(log, steps=2))
    assert log == ["pretrain", "align", "align", "pretrain", "align"]
    run(tmp_path, chain(log))  # the first results are still there
    assert len(log) == 5


def test_a_broken_stage_goes_on_in_its_folder(tmp_path):
    def breaks(folder):
        (folder / "half.txt").write_text("half")
        raise RuntimeError("power cut")

    seen, said = [], []
    with pytest.raises(RuntimeError):
        run(tmp_path, [Stage("sample", breaks, {"n": 1})])
    whole = Stage("sample", lambda f: seen.append((f / "half.txt").exists()), {"n": 1})
    assert state_of(whole, tmp_path) == "begun"
    run(tmp_path, [whole], said)
    assert seen == [True]
    assert said == [f"going on in {whole.folder}"]
    assert state_of(whole, tmp_path) == "done"


def test_a_finished_stage_lists_its_files_and_refuses_others(tmp_path):
    def body(folder):
        for name in ("clips-0000000-0000003.array_record", "params/a", "checkpoints/b", ".c"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        return {"clips-0000000-0000003.array_record": 3}

    stage = Stage("sample", body, {})
    run(tmp_path, [stage])
    folder = tmp_path / stage.folder
    done = json.loads((folder / "done.json").read_text())
    assert done["files"] == {
        "clips-0000000-0000003.array_record": {"size": 34, "rows": 3},
        "params/a": {"size": 8},
    }
    assert finished(stage, tmp_path).reused
    (folder / "params" / "a").write_text("longer than before")
    with pytest.raises(ValueError, match=r"params/a has 18 bytes, and 8 when .* Put it back, or"):
        run(tmp_path, [stage])
    (folder / "params" / "a").unlink()
    with pytest.raises(ValueError, match=r"is finished and lacks params/a.* delete sample-"):
        finished(stage, tmp_path)
    (folder / "done.json").write_text('{"seconds": 1.0')
    with pytest.raises(ValueError, match=r"done.json is damaged .* Delete it and run"):
        finished(stage, tmp_path)
    (folder / "done.json").write_text('{"seconds": 1.0}')  # of an earlier version
    assert finished(stage, tmp_path).seconds == 1.0


def test_the_settings_are_written_for_the_reader(tmp_path):
    _, align = run(tmp_path, chain([]))
    found = json.loads((align.path / "settings.json").read_text())
    assert found["causes"] == {"align.beta": 1.0}
    assert found["inputs"]["policy"].startswith("pretrain-")


def test_the_fingerprint_is_of_causes_and_inputs_and_not_of_their_order():
    def digest(causes, inputs=None):
        return Stage("s", print, causes, inputs or {}).fingerprint

    first, second = chain([])[0], chain([], steps=2)[0]
    assert digest({"x": 1, "y": (2, 3)}) == digest({"y": [2, 3], "x": 1})
    found = {digest({"x": 1}), digest({"x": 2}), digest({"x": 1}, {"p": first})}
    assert len(found | {digest({"x": 1}, {"p": second}), digest({"x": 1}, {"q": first})}) == 5


def test_inputs_come_first_and_equal_stages_count_once():
    first, second = chain([])
    _, other = chain([], beta=2.0)  # on a pretrain stage of its own that equals the first
    order = in_order([second, other])
    assert [stage.name for stage in order] == ["pretrain", "align", "align"]
    assert order[0].folder == first.folder


def test_why_names_the_causes_and_inputs_that_changed(tmp_path):
    assert why_new(chain([])[1], tmp_path) == "never done here"
    run(tmp_path, chain([]))
    run(tmp_path, chain([], beta=7.0))
    _, align = chain([], beta=2.0)
    assert why_new(align, tmp_path) == "align.beta: 7.0 -> 2.0"  # the last one made
    first, align = chain([], steps=5)
    assert why_new(first, tmp_path) == "train.steps: 1 -> 5"
    assert why_new(align, tmp_path) == "its input policy is another"
    lines = []
    run_stage(first, tmp_path, lines.append)
    assert lines == [f"into {first.folder} (train.steps: 1 -> 5)"]
    first, _ = chain([], steps=6)
    with pytest.raises(ValueError, match=r"no finished pretrain-.*train.steps: 5 -> 6"):
        finished(first, tmp_path)
