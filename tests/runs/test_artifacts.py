"""Stages are done once, redone when a cause changes, and resumed when they broke off."""

import json
import os
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from vidpref.runs.artifacts import WorkdirInUse, fingerprint, locked, run_stage


def _chain(workdir, log, *, steps=1, beta=1.0, log_every=1):
    def body(name):
        return lambda folder: log.append(name) or (folder / "out.txt").write_text(name)

    train = ConfigDict({"steps": steps, "log_every": log_every})
    first = run_stage(workdir, "pretrain", body("pretrain"), settings={"train": train})
    second = run_stage(
        workdir, "align", body("align"), settings={"beta": beta}, inputs={"policy": first}
    )
    return first, second


def test_a_finished_stage_is_not_redone(tmp_path):
    log = []
    first, _ = _chain(tmp_path, log)
    again, _ = _chain(tmp_path, log)
    assert log == ["pretrain", "align"]
    assert again.reused
    assert again.path == first.path


def test_a_changed_field_redoes_exactly_what_depends_on_it(tmp_path):
    log = []
    _chain(tmp_path, log)
    _chain(tmp_path, log, beta=2.0)
    assert log == ["pretrain", "align", "align"]
    _chain(tmp_path, log, steps=2)
    assert log == ["pretrain", "align", "align", "pretrain", "align"]
    _chain(tmp_path, log)  # the first results are still there
    assert len(log) == 5


def test_a_field_without_effect_redoes_nothing(tmp_path):
    log = []
    _chain(tmp_path, log, log_every=1)
    _chain(tmp_path, log, log_every=50)
    assert log == ["pretrain", "align"]


def test_a_broken_stage_goes_on_in_its_folder(tmp_path):
    def breaks(folder):
        (folder / "half.txt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run_stage(tmp_path, "sample", breaks, settings={"n": 1})
    seen = []
    run_stage(
        tmp_path, "sample", lambda f: seen.append((f / "half.txt").exists()), settings={"n": 1}
    )
    assert seen == [True]


def test_the_settings_are_written_for_the_reader(tmp_path):
    _, align = _chain(tmp_path, [])
    causes = json.loads((align.path / "settings.json").read_text())
    assert causes["settings"] == {"beta": 1.0}
    assert causes["inputs"]["policy"].startswith("pretrain-")


def test_the_fingerprint_does_not_depend_on_the_order_of_fields():
    a = fingerprint("s", {"x": 1, "y": {"b": 2, "a": 3}}, {})
    assert a == fingerprint("s", {"y": {"a": 3, "b": 2}, "x": 1}, {})
    assert a != fingerprint("s", {"x": 1, "y": {"b": 2, "a": 4}}, {})


_HOLDER = """
import pathlib, sys
from vidpref.runs.artifacts import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_the_same_workdir_is_refused(tmp_path):
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(WorkdirInUse, match=f"process {other.pid}"), locked(tmp_path):
            pass
    finally:
        other.kill()  # not even a clean exit is needed to free the work directory
        other.communicate()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()
