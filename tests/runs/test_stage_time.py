"""Where the time of a stage went, in all of its attempts together."""

import json
import time

import jax
import jax.numpy as jnp
import pytest

from vidpref.coordination import time_spent
from vidpref.coordination.time_spent import SAVING, WAITING, counted, keep, work
from vidpref.runs import stage_time
from vidpref.runs.graph import Stage, finished, run_stage
from vidpref.runs.report_contents import time_table
from vidpref.runs.stage_time import FILE, StageTime


def run(body, folder):
    stage = Stage("align", body, {"steps": 1})
    return stage, run_stage(stage, folder, lambda line: None)


def test_causes_are_taken_from_the_work(tmp_path):
    def body(folder):
        jax.jit(lambda x: x * 3.0 + jnp.tanh(x))(jnp.ones(7)).block_until_ready()
        for cause, seconds in ((WAITING, 0.2), (SAVING, 0.1)):
            with counted(cause):
                time.sleep(seconds)
        time.sleep(0.3)

    stage, done = run(body, tmp_path)
    took = done.time
    assert 0.2 <= took.waiting < 0.5
    assert 0.1 <= took.saving < 0.4
    assert took.compiling > 0
    assert (took.lost, took.between) == (0.0, 0.0)
    parts = took.waiting + took.saving + took.compiling
    assert took.productive == pytest.approx(took.total - parts)
    assert took.productive >= 0.3
    assert finished(stage, tmp_path).time.total == pytest.approx(took.total, abs=1e-3)


def test_what_was_not_on_disk_when_a_run_was_stopped_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_time, "_EVERY", 0.02)  # as a kill leaves the last note

    def killed(folder):
        time.sleep(0.2)
        keep()
        made = work()
        time.sleep(0.3)
        keep(made)  # of what was made before, as a checkpoint that is written meanwhile
        note = json.loads((folder / FILE).read_text())
        assert note["total"] >= 0.2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path)
    time.sleep(0.2)
    _, done = run(lambda folder: time.sleep(0.1), tmp_path)
    took = done.time
    assert 0.3 <= took.lost < 0.5
    assert 0.2 <= took.between < 2.0
    assert took.total >= 0.6
    assert took.productive == pytest.approx(took.total - took.lost)


def test_a_note_that_is_damaged_or_missing_counts_as_none(tmp_path):
    for text in (
        "",
        '{"total": 1}',
        "[]",
        '{"unsaved": 1, "until": 2, "lost": 0, "between": 0, "x": 1}',
    ):
        (tmp_path / FILE).write_text(text)
        assert stage_time.earlier_attempts(tmp_path) == {}
    assert stage_time.earlier_attempts(tmp_path / "none") == {}


def test_the_work_clock_stands_still_while_something_is_counted():
    before = work()
    with counted(WAITING):
        time.sleep(0.1)
    assert work() - before < 0.05
    time_spent.keep(before - 1.0)  # never back
    assert time_spent.kept() >= time_spent.kept()


def test_the_table_adds_all_stages_up():
    times = [
        StageTime(total=80.0, compiling=20.0, saving=4.0),
        StageTime(total=20.0, waiting=10.0, lost=6.0, between=7200.0),
    ]
    table = time_table(times)
    assert [(what, share) for what, _, share in table.rows] == [
        ("work that counts", "60.0 %"),
        ("compiling", "20.0 %"),
        ("waiting for checkpoints", "4.0 %"),
        ("waiting for other hosts", "10.0 %"),
        ("work lost where a run was stopped", "6.0 %"),
        ("all stages", ""),
    ]
    assert table.rows[-1][1] == "1 min 40 s"
    assert "2 h 00 min" in table.caption
    assert time_table([StageTime()]).rows[0][2] == "0.0 %"
