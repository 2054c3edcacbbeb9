"""A work directory is held by one run, tells what a run would do, and can be cleared up."""

import functools
import os
import subprocess
import sys
import time

import pytest

from vidpref.files import write_text
from vidpref.runs import workdir as workdirs
from vidpref.runs.graph import Stage, in_order, run_stage
from vidpref.runs.workdir import WorkdirInUse, locked
from vidpref.storage import mirror
from vidpref.storage.bucket import Bucket
from vidpref.storage.lease import Lease, LeaseLost

_HOLDER = """
import pathlib, sys
from vidpref.runs.workdir import locked
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


def write(folder):
    (folder / "out.bin").write_bytes(b"0" * 2000)


def run_of(beta):
    data = Stage("data", write, {"data.name": "miniworld"})
    align = Stage("align-dpo", write, {"align.beta": beta}, {"data": data})
    return in_order([Stage("label", write, {}, {"samples": align})])


def finish(workdir, stages):
    for stage in stages:
        run_stage(stage, workdir, lambda line: None)


def test_a_dry_run_says_what_would_run_and_why(tmp_path):
    finish(tmp_path, run_of(1.0))
    stages = run_of(2.0)
    (tmp_path / stages[1].folder).mkdir()  # a run was stopped in it
    lines = workdirs.dry_run(stages, tmp_path).splitlines()
    assert lines[0].split() == ["[1/3]", "data", "2", "kB", "reused"]
    assert lines[1].split()[-2:] == ["goes", "on"]
    assert lines[2].endswith("runs  after align-dpo")
    lines = workdirs.dry_run(run_of(3.0), tmp_path).splitlines()
    assert lines[1].endswith("runs  align.beta: 1.0 -> 3.0")
    assert not list(tmp_path.glob(f"{run_of(3.0)[1].folder}*"))


def test_what_no_finished_run_uses_can_be_removed(tmp_path):
    with pytest.raises(ValueError, match="no run is finished here"):
        workdirs.unused(tmp_path)
    kept, left = run_of(1.0), run_of(2.0)
    finish(tmp_path, kept)
    finish(tmp_path, left)
    workdirs.note_run(tmp_path, "dpo:mini", kept)
    (tmp_path / "compiled").mkdir()
    (tmp_path / "report.html").write_text("")
    paths = workdirs.unused(tmp_path)
    assert {path.name for path in paths} == {stage.folder for stage in left[1:]}
    assert workdirs.unused_text(paths).splitlines()[-1].split()[-3:] == ["in", "2", "folders"]
    workdirs.remove(paths)
    remaining = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert remaining == {"compiled", *(stage.folder for stage in kept)}
    workdirs.note_run(tmp_path, "dpo:mini", kept)  # the same run again is the same entry
    workdirs.note_run(tmp_path, "rwr:mini", run_of(5.0))
    assert len(workdirs.finished_runs(tmp_path)) == 2


@pytest.fixture
def bucket_folder(address, monkeypatch):
    """A work directory in a bucket, whose lease is renewed often."""
    quick = functools.partial(Lease, renewed=0.3, stale=60.0)
    monkeypatch.setattr(mirror, "Lease", quick)
    return mirror.open_folder(address)


def test_in_a_bucket_a_second_run_is_refused(bucket_folder, address):
    with locked(bucket_folder):
        refused = pytest.raises(WorkdirInUse, match=f"{address} is in use by another run")
        with refused, locked(bucket_folder):
            pass
        write_text(bucket_folder / "a", "")
    assert set(Bucket(address).listing()) == {"a"}
    with locked(bucket_folder):
        pass


def test_in_a_bucket_that_another_run_took_over_nothing_is_written(bucket_folder, address):
    with locked(bucket_folder):
        Bucket(address).put("lock", b"another's")
        time.sleep(2.0)
        with pytest.raises(LeaseLost):
            write_text(bucket_folder / "a", "")
    assert Bucket(address).read("lock").data == b"another's"
    assert Bucket(address).read("a") is None
