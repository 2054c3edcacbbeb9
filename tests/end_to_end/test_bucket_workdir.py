"""A whole recipe in a bucket, stopped, without its machine's disk, gone on with: as on a disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vidpref
from tests.end_to_end.tiny import TINY
from vidpref.stages import sample
from vidpref.storage import mirror
from vidpref.storage.bucket import Bucket
from vidpref.training.metrics import MetricsWriter

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [
    *TINY,
    "pretrain.train.steps=2",
    "align.train.steps=4",
    "align.train.checkpoint_every=2",
    "align.gamma=1.0",
    "label.prompts=3",
    "evaluate.train_prompts=2",
    "evaluate.test_prompts=2",
]


class Killed(BaseException):
    """What no program expects."""


def _die_at(monkeypatch, owner, name, count):
    """Has the call number `count` of a function end the run."""
    was, calls = getattr(owner, name), []

    def dying(*args, **options):
        calls.append(1)
        if len(calls) == count:
            raise Killed
        return was(*args, **options)

    monkeypatch.setattr(owner, name, dying)


def _steps(folder, stage):
    (path,) = folder.glob(f"{stage}-*/metrics.jsonl")
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_stopped_twice_and_without_its_disk_it_ends_as_on_a_disk(
    address, tmp_path, fickle, monkeypatch
):
    config = vidpref.load_config("rwr_aif:mini", FIELDS)
    straight = vidpref.run(config, tmp_path / "straight")
    cache = tmp_path / "cache"

    for owner, name, count in ((sample, "write_records", 2), (MetricsWriter, "write", 3)):
        with monkeypatch.context() as patch:
            _die_at(patch, owner, name, count)
            with pytest.raises(Killed):
                vidpref.run(config, address)
        shutil.rmtree(cache)
    objects = Bucket(address).listing()
    assert any(name.startswith("sample-train") and "clips-" in name for name in objects)
    assert any("/checkpoints/2/" in name for name in objects)
    assert "lock" not in objects

    done = vidpref.run(config, address)
    assert mirror.address(done.workdir) == address
    expected, found = ((run.folder / "evaluation.json").read_text() for run in (straight, done))
    assert found == expected
    assert _steps(done.workdir, "align-rwr-round1") == [1, 2, 3, 4]
    assert json.loads(Bucket(address).read("evaluation.json").data) == json.loads(expected)
    assert (
        Bucket(address).read("report.html").data
        == done.workdir.joinpath("report.html").read_bytes()
    )

    shutil.rmtree(cache)
    again = vidpref.open_run(address)
    assert again.evaluation.equals(straight.evaluation)
    assert again.metrics["pretrain"].equals(straight.metrics["pretrain"])
    for run in (straight, again):
        table, clips = run.clips(policy="rwr", split="test", limit=2)
        assert len(table) == len(clips) == 2
    assert (clips == straight.clips(policy="rwr", split="test", limit=2)[1]).all()
    assert not (ROOT / "gs:").exists()


@pytest.mark.slow
def test_a_program_that_was_killed_goes_on_on_another_disk(address, tmp_path, monkeypatch):
    fields = [f"--config.{field}" for field in FIELDS]
    command = [sys.executable, "launch/tpu_run.py", "--config=rwr_aif:mini", *fields]
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}

    def start(workdir, cache):
        return subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            cwd=ROOT,
            env=env | {"VIDPREF_CACHE": str(tmp_path / cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    straight = start(tmp_path / "straight", "none")
    output, _ = straight.communicate()
    assert straight.returncode == 0, output

    killed, bucket = start(address, "first"), Bucket(address)
    while not any("clips-" in name for name in bucket.listing("sample-train")):
        assert killed.poll() is None, killed.stdout.read()
        time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert bucket.read("lock") is not None

    second = start(address, "second")  # the first is gone, as this machine knows
    while not any("/checkpoints/2/" in name for name in bucket.listing("align")):
        assert second.poll() is None, second.stdout.read()
        time.sleep(0.2)
    refused = start(address, "third")
    output, _ = refused.communicate()
    assert refused.returncode == 1, output
    assert f"{address} is in use by another run (process {second.pid} on" in output
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert output.splitlines()[-1] == f"report: {address}/report.html"
    expected = (tmp_path / "straight" / "evaluation.json").read_bytes()
    assert bucket.read("evaluation.json").data == expected
    assert bucket.read("lock") is None
