"""A folder here that stands for one in a bucket: what is put, brought, removed, and what counts."""

import os
import shutil
from pathlib import Path

import pytest

from vidpref.files import whole_file, write_text
from vidpref.storage import mirror
from vidpref.storage.bucket import Bucket, StorageError
from vidpref.training.tuning import ADAPTERS, PARAMS


@pytest.fixture
def folder(address):
    return mirror.open_folder(address)


@pytest.fixture
def elsewhere(address, monkeypatch, tmp_path):
    """Opens the address as another machine does."""

    def open_there(name="elsewhere"):
        monkeypatch.setenv("VIDPREF_CACHE", str(tmp_path / name))
        return mirror.open_folder(address)

    return open_there


def _below(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def test_a_file_system_is_left_as_it_is(tmp_path):
    assert mirror.open_folder(tmp_path) == tmp_path
    assert not mirror.mirrored(tmp_path)
    assert mirror.address(tmp_path / "a") == str(tmp_path / "a")
    (tmp_path / "stage").mkdir()
    write_text(tmp_path / "stage" / "a", "abc")
    assert mirror.pull(tmp_path / "stage") == tmp_path / "stage"
    mirror.push(tmp_path / "stage")
    assert mirror.files(tmp_path) == {"stage/a": 3}
    mirror.remove(tmp_path / "stage")
    mirror.remove(tmp_path / "stage")
    assert not list(tmp_path.iterdir())


def test_what_is_put_whole_is_in_the_bucket(folder, address):
    assert mirror.mirrored(folder)
    assert mirror.address(folder) == address
    assert mirror.address(folder / "stage" / "a") == f"{address}/stage/a"
    (folder / "stage").mkdir()
    write_text(folder / "stage" / "a", "abc")
    assert Bucket(address).read("stage/a").data == b"abc"
    assert mirror.files(folder / "stage") == {"a": 3}
    with pytest.raises(ZeroDivisionError), whole_file(folder / "stage" / "b"):
        _ = 1 / 0
    assert mirror.files(folder) == {"stage/a": 3}


def test_another_machine_sees_stages_at_once_and_brings_their_files(folder, elsewhere):
    for stage in ("data-1", "text-2"):
        (folder / stage / "below").mkdir(parents=True)
        write_text(folder / stage / "settings.json", "{}")
        write_text(folder / stage / "below" / "a.array_record", stage)
    write_text(folder / "data-1" / "done.json", "{}")
    write_text(folder / "evaluation.json", "1")
    other = elsewhere()
    assert _below(other) == {
        "data-1/settings.json": "{}",
        "data-1/done.json": "{}",
        "text-2/settings.json": "{}",
        "evaluation.json": "1",
    }
    assert mirror.pull(other / "data-1") == other / "data-1"
    assert (other / "data-1/below/a.array_record").read_text() == "data-1"
    assert not (other / "text-2/below").exists()


def test_only_what_differs_is_brought(folder, elsewhere, monkeypatch):
    (folder / "stage").mkdir()
    for name in "abc":
        write_text(folder / "stage" / name, name)
    other = elsewhere()
    mirror.pull(other / "stage")
    write_text(folder / "stage" / "b", "B")  # as many bytes
    brought, get_file = [], Bucket.get_file

    def counted(bucket, name, *args):
        brought.append(name)
        return get_file(bucket, name, *args)

    monkeypatch.setattr(Bucket, "get_file", counted)
    mirror.pull(other / "stage")
    assert brought == ["stage/b"]
    assert _below(other / "stage") == {"a": "a", "b": "B", "c": "c"}
    # a later process finds them by their times, and where those are lost by their digests
    os.utime(other / "stage" / "a")
    monkeypatch.setattr(mirror, "_mirrors", {})
    mirror.pull(elsewhere() / "stage")
    assert brought == ["stage/b"]


def test_a_stage_that_goes_on_is_as_the_bucket_has_it(folder, elsewhere):
    (folder / "stage").mkdir()
    write_text(folder / "stage" / "rows-0-8", "x")
    other = elsewhere()
    mirror.pull(other / "stage")
    (other / "stage" / "rows-0-4").write_text("not put: the machine was killed")
    (other / "stage" / "params").mkdir()
    (other / "stage" / "params" / "a").write_text("")
    mirror.remove(folder / "stage" / "rows-0-8")
    write_text(folder / "stage" / "rows-8-16", "y")
    mirror.pull(other / "stage", exact=True)
    assert _below(other / "stage") == {"rows-8-16": "y", "params/a": ""}


def test_what_is_not_whole_yet_is_not_put_and_leaves_no_folder(folder, elsewhere, address):
    partial = folder / "stage" / ".judge.partial"
    partial.mkdir(parents=True)
    write_text(partial / "model.safetensors", "weights")
    write_text(folder / "stage" / "settings.json", "{}")
    assert set(Bucket(address).listing()) == {"stage/settings.json"}
    partial.replace(folder / "stage" / "judge")
    mirror.pull(folder / "stage", exact=True)  # killed before the stage's end
    assert not (folder / "stage" / "judge").exists()
    (folder / "stage" / "judge" / "below").mkdir(parents=True)
    (folder / "stage" / "judge" / "below" / "a").write_text("a")
    mirror.push(folder / "stage")
    assert mirror.files(folder / "stage") == {"settings.json": 2, "judge/below/a": 1}
    other = elsewhere()
    mirror.pull(other / "stage", exact=True)
    assert (other / "stage" / "judge" / "below" / "a").read_text() == "a"


def test_what_libraries_wrote_is_put_at_the_end(folder, address):
    below = folder / "stage" / "tensorboard"
    below.mkdir(parents=True)
    (below / "events").write_text("a")
    (folder / "stage" / ".temporary").write_text("")
    (folder / "stage" / "wandb").mkdir()
    (folder / "stage" / "wandb" / "run").write_text("")
    write_text(folder / "stage" / "b", "b")
    first = Bucket(address).listing()["stage/b"]
    mirror.push(folder / "stage")
    assert mirror.files(folder / "stage") == {"b": 1, "tensorboard/events": 1}
    assert Bucket(address).listing()["stage/b"] == first  # it was there


def test_stages_that_were_removed_elsewhere_are_gone(folder, elsewhere):
    for stage in ("data-1", "text-2"):
        (folder / stage).mkdir()
        write_text(folder / stage / "settings.json", "{}")
        write_text(folder / stage / "done.json", "{}")
    write_text(folder / "finished_runs.json", "{}")
    other = elsewhere()
    mirror.remove(folder / "finished_runs.json")
    (other / "new.json").write_text("of a run that is about to put it")
    os.utime(other / "new.json", ns=(123456789, 123456789))
    mirror.remove(folder / "data-1")
    assert not (folder / "data-1").exists()
    mirror.remove(folder / "text-2" / "done.json")
    assert mirror.open_folder(mirror.address(other)) == other
    assert set(_below(other)) == {"text-2/settings.json", "new.json"}
    assert not (other / "data-1").exists()


def test_a_run_of_a_work_directory_is_opened_in_it(folder, address, elsewhere):
    (folder / "runs" / "dpo-1").mkdir(parents=True)
    write_text(folder / "runs" / "dpo-1" / "run.json", "{}")
    other = elsewhere()
    assert mirror.open_folder(f"{address}/runs/dpo-1/") == other / "runs" / "dpo-1"
    lone = mirror.open_folder(f"{address}/runs/dpo")  # a work directory that is called so
    assert mirror.address(lone) == f"{address}/runs/dpo"


def test_a_cache_that_cannot_be_written_is_named(address, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDPREF_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="set VIDPREF_CACHE to a folder with room"):
        mirror.open_folder(address)


def test_a_deleted_cache_is_brought_again(folder, address):
    (folder / "stage").mkdir()
    write_text(folder / "stage" / "a", "abc")
    write_text(folder / "stage" / "done.json", "{}")
    mirror.pull(folder / "stage")
    shutil.rmtree(folder)
    assert mirror.pull(mirror.open_folder(address) / "stage") == folder / "stage"
    assert (folder / "stage" / "a").read_text() == "abc"


def test_what_orbax_reads_itself_stays_in_the_bucket(folder, elsewhere):
    assert {PARAMS, ADAPTERS, "checkpoints"} <= mirror.DIRECT
    for name in (PARAMS, "checkpoints"):
        (folder / "stage" / name).mkdir(parents=True)
        write_text(folder / "stage" / name / "a", "a")
    other = elsewhere()
    mirror.pull(other / "stage")
    assert not Path(other / "stage").exists()
    assert mirror.files(other / "stage") == {"params/a": 1, "checkpoints/a": 1}
