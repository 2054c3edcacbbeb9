"""Data and weights in a bucket: what is brought, when again, and what is said if it cannot be."""

import errno
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from vidpref.storage import bucket as buckets
from vidpref.storage import copies, transfers
from vidpref.storage.bucket import Bucket, StorageError


@pytest.fixture(autouse=True)
def another_process(monkeypatch):
    """Forgets what was asked for, as a process that begins."""

    def forget():
        monkeypatch.setattr(copies, "_brought", set())
        monkeypatch.setattr(copies, "_named", set())

    forget()
    return forget


@pytest.fixture
def bucket(address):
    return Bucket(address)


@pytest.fixture
def brought(monkeypatch):
    """The names of the objects that are fetched from now on."""
    names, get_file = [], Bucket.get_file

    def counted(bucket, name, *args):
        names.append(name.rpartition("/")[2])
        return get_file(bucket, name, *args)

    monkeypatch.setattr(Bucket, "get_file", counted)
    return names


def _below(folder):
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_paths_are_left_as_they_are(tmp_path):
    assert copies.here(tmp_path) == copies.path_of(tmp_path) == tmp_path
    assert copies.here("~/x") == Path.home() / "x"
    assert copies.here("") == Path()
    assert copies.address(tmp_path / "a") == str(tmp_path / "a")
    assert copies.is_folder(tmp_path)
    copies.bring_named([tmp_path / "a"])
    assert not list(tmp_path.iterdir())


def test_files_and_folders_lie_here_at_their_addresses(bucket, address, tmp_path, brought):
    bucket.put("wan/vae/config.json", b"{}")
    bucket.put("wan/vae/a.safetensors", b"weights")
    bucket.put("wan2/b", b"")
    bucket.put("pairs.csv", b"a,b")
    wan = copies.here(f"{address}/wan/", weights=False)
    assert _below(wan) == {"vae/config.json": b"{}"}
    assert copies.here(f"{address}/wan") == wan
    assert _below(wan) == {"vae/config.json": b"{}", "vae/a.safetensors": b"weights"}
    assert copies.here(f"{address}/pairs.csv").read_bytes() == b"a,b"
    assert copies.address(wan / "vae") == f"{address}/wan/vae"
    assert copies.path_of(f"{address}/wan/vae") == wan / "vae"
    assert copies.here(f"{address}/wan/vae") == wan / "vae"
    assert sorted(brought) == ["a.safetensors", "config.json", "pairs.csv"]
    assert [copies.is_folder(f"{address}/{name}") for name in ("wan", "pairs.csv")] == [True, False]
    assert not (wan.parent / "wan2").exists()
    assert wan.is_relative_to(tmp_path / "cache")


def test_what_has_changed_is_brought_again_by_the_next_process(
    bucket, address, brought, another_process
):
    for name in "abc":
        bucket.put(f"data/{name}", name.encode())
    folder = copies.here(f"{address}/data")
    bucket.put("data/b", b"B")  # as many bytes
    bucket.delete("data/c")
    assert _below(copies.here(f"{address}/data")) == {"a": b"a", "b": b"b", "c": b"c"}
    another_process()
    brought.clear()
    assert _below(copies.here(f"{address}/data")) == {"a": b"a", "b": b"B"}
    assert brought == ["b"]
    shutil.rmtree(folder)
    another_process()
    assert _below(copies.here(f"{address}/data")) == {"a": b"a", "b": b"B"}


def test_of_a_list_only_what_is_named_is_brought(bucket, address, brought, another_process):
    for name in ("list.csv", "v/0.mp4", "v/1.mp4", "other.mp4"):
        bucket.put(f"data/{name}", b"x")
    folder = copies.path_of(f"{address}/data")
    copies.bring_named([folder / "v/../v/0.mp4", folder / "v/1.mp4", folder / "v/2.mp4"])
    copies.bring_named([folder / "v/0.mp4"])
    assert sorted(brought) == ["0.mp4", "1.mp4"]
    assert set(_below(folder)) == {"v/0.mp4", "v/1.mp4"}
    bucket.delete("data/v/0.mp4")
    another_process()
    copies.bring_named([folder / "v/0.mp4", folder / "v/1.mp4"])
    assert set(_below(folder)) == {"v/1.mp4"}
    copies.here(f"{address}/data")
    assert set(_below(folder)) == {"list.csv", "v/1.mp4", "other.mp4"}


def test_a_download_that_ends_never_looks_whole(
    bucket, address, monkeypatch, brought, another_process
):
    monkeypatch.setattr(buckets, "_PIECE", 4)
    monkeypatch.setattr(transfers, "AT_ONCE", 1)
    bucket.put("data/a", b"whole")
    bucket.put("data/b", b"0123456789")
    fetch, died = Bucket._fetch, []

    def dying(bucket, name, file, size, told):
        def told_once(count):
            told(count)
            died.append(name)
            raise KeyboardInterrupt

        return fetch(bucket, name, file, size, told_once if name.endswith("b") else told)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "_fetch", dying)
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)  # as after SIGKILL
        with pytest.raises(KeyboardInterrupt):
            copies.here(f"{address}/data")
    assert len(died) == 1
    folder = copies.path_of(f"{address}/data")
    assert (folder / "a").read_bytes() == b"whole"
    (left,) = set(_below(folder)) - {"a"}
    assert left.startswith(".")
    assert _below(folder)[left] == b"0123"
    brought.clear()
    assert _below(copies.here(f"{address}/data")) == {"a": b"whole", "b": b"0123456789"}
    assert brought == ["b"]


def _bring_there(place, results):
    fetched, get_file = [], Bucket.get_file

    def counted(bucket, name, *args):
        fetched.append(name)
        return get_file(bucket, name, *args)

    Bucket.get_file = counted
    results.put((sorted(_below(copies.here(place))), len(fetched)))


def test_processes_of_one_machine_bring_it_once(bucket, address):
    for number in range(20):
        bucket.put(f"data/{number}", bytes(1000))
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [
        spawn.Process(target=_bring_there, args=(f"{address}/data", results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert [names for names, _ in found] == 2 * [sorted(map(str, range(20)))]
    assert sum(count for _, count in found) == 20


def test_how_much_is_brought_is_said(bucket, address, monkeypatch, capsys):
    bucket.put("data/a", bytes(2_500_000))
    bucket.put("data/b", bytes(500_000))
    monkeypatch.setattr(transfers, "_SAID_FROM", 2_000_000)
    monkeypatch.setattr(transfers, "_SAID_EVERY", 0.0)
    copies.here(f"{address}/data")
    said = capsys.readouterr().err
    root = f"gs://{bucket.bucket}"
    assert said.startswith(f"bringing 0.003 GB, 2 files, from {root} into ")


def test_places_where_nothing_is_are_named(bucket, address):
    bucket.put("data/a", b"a")
    with pytest.raises(StorageError) as refused:
        copies.here(f"{address}/dat")
    assert str(refused.value).startswith(f"{address}/dat: there is no such file or folder in the b")
    for call in (copies.here, copies.is_folder):
        with pytest.raises(StorageError, match="gs://no-such-bucket: there is no bucket no-such-b"):
            call("gs://no-such-bucket/data")


def test_an_object_that_vanishes_is_named(bucket, address, monkeypatch):
    for name in "ab":
        bucket.put(f"data/{name}", name.encode())
    listing = Bucket.listing

    def then_deleted(self, below=""):
        found = listing(self, below)
        bucket.delete("data/b")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "listing", then_deleted)
        with pytest.raises(StorageError) as refused:
            copies.here(f"{address}/data")
    assert str(refused.value).startswith(f"{address}/data/b: gone, or another one, since")
    assert _below(copies.here(f"{address}/data")) == {"a": b"a"}


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_full_disk_is_named_and_loses_nothing(bucket, address, monkeypatch, tmp_path, when):
    bucket.put("data/a", bytes(3_000_000))
    full = shutil._ntuple_diskusage(10**9, 10**9, 2_000_000)
    fetch = Bucket._fetch

    def no_space(*args):
        fetch(*args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if when == "before":
            patch.setattr(shutil, "disk_usage", lambda path: full)
        patch.setattr(Bucket, "_fetch", no_space)
        with pytest.raises(StorageError) as refused:
            copies.here(f"{address}/data")
    said = str(refused.value)
    assert said.startswith(f"0.003 GB of gs://{bucket.bucket} are to be brought into {tmp_path}")
    assert os.uname().nodename in said
    assert "set VIDPREF_CACHE to a folder" in said
    folder = copies.path_of(f"{address}/data")
    assert _below(folder) == {}
    assert len(_below(copies.here(f"{address}/data"))["a"]) == 3_000_000


def test_a_cache_that_cannot_be_written_is_named(bucket, address, monkeypatch, tmp_path):
    bucket.put("a", b"")
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDPREF_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot be written .*set VIDPREF_CACHE to a folder"):
        copies.here(f"{address}/a")


@pytest.mark.parametrize("name", ["../../outside", "a//b", "./c"])
def test_names_that_are_no_names_of_files_are_refused(bucket, address, name, tmp_path):
    o = buckets.Object(1, 1, "")
    with pytest.raises(StorageError, match="no file can have this name"):
        transfers.bring(bucket, {f"data/{name}": o}, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_what_is_a_file_and_a_folder_is_refused(bucket, address):
    bucket.put("data/a", b"file")
    bucket.put("data/a/b", b"below")
    with pytest.raises(StorageError, match="would be a file and a folder"):
        copies.here(f"{address}/data")
