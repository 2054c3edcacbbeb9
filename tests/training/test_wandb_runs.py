"""Metrics in Weights & Biases, without a network: what its own files hold."""

import struct
import sys
import time

import pytest

from vidpref.training.metrics import MetricsWriter
from vidpref.training.wandb_runs import Project, check_wandb, logged_to

PROJECT = Project("alignments", "dpo_aif:mini", {"align": {"beta": 5000.0}})
_BLOCK, _HEADER = 32768, 7  # of LevelDB's log, in which W&B keeps records


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # what an earlier test of this process had it read from the environment
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def records(path):
    """Reads the records of a run's file, by the format of LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), _HEADER, b""
    while at + _HEADER <= len(data):
        if (left := _BLOCK - at % _BLOCK) < _HEADER:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (1, 4):  # a whole record, or the end of one
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def whole(path):
    """The records up to that of the end: W&B's process goes on writing when ours is done."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        read = list(records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in read):
            return read
        time.sleep(0.05)
    raise AssertionError(f"{path} has no end")


def logged(folder):
    """(the run's record, {step: loss}) of every W&B run of a folder, the first one first."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        run, losses = None, {}
        for record in whole(path):
            if record.WhichOneof("record_type") == "run":
                run = record.run
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                row = {i.key or "/".join(i.nested_key): i.value_json for i in items}
                losses[int(row["_step"])] = float(row["loss"])
        found.append((run, losses))
    return found


def write(folder, steps, **options):
    with logged_to(PROJECT), MetricsWriter(folder, **options) as writer:
        for step in steps:
            writer.write(step, {"loss": 1.0 / step})


def test_the_metrics_arrive_and_a_stage_that_goes_on_has_the_same_run(tmp_path):
    folder, other = tmp_path / "align-dpo-round1-0a599b6b7ce7", tmp_path / "other"
    write(folder, (10, 20))
    ((run, losses),) = logged(folder)
    assert losses == {10: 0.1, 20: 0.05}
    assert (run.project, run.run_group) == ("alignments", "dpo_aif:mini")
    assert run.display_name == folder.name
    assert "5000" in str(run.config)

    (folder / "wandb").rename(folder / "earlier")  # two runs of one second have one name
    write(folder, (20, 30), resume_step=10)
    ((again, losses),) = logged(folder)
    assert again.run_id == run.run_id
    assert again.run_id.startswith(folder.name)
    assert losses == {20: 0.05, 30: pytest.approx(1 / 30)}

    write(other / folder.name, (10,))  # the same stage of another work directory
    ((elsewhere, _),) = logged(other / folder.name)
    assert elsewhere.run_id != run.run_id


def test_nothing_is_logged_outside_or_by_other_processes(tmp_path):
    write(tmp_path / "second", (1,), enabled=False)
    with logged_to(Project("", "x", {})), MetricsWriter(tmp_path / "off") as writer:
        writer.write(1, {"loss": 1.0})
    with MetricsWriter(tmp_path / "outside") as writer:
        writer.write(1, {"loss": 1.0})
    assert not list(tmp_path.rglob("*wandb*"))


def test_a_missing_package_or_account_is_said_before_anything_runs(monkeypatch):
    check_wandb("")
    check_wandb("alignments")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(ValueError, match=r"no account .* WANDB_MODE=offline"):
        check_wandb("alignments")
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed; pip install -e '\.\[wandb\]'"):
        check_wandb("alignments")
    check_wandb("")
