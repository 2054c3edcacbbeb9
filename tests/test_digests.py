"""Digits of files change with what lies in them, and not with where they lie."""

import os
import shutil

import pytest

from vidpref.digests import changed_files, digest_files, files_below

LARGE = bytes(range(256)) * 1024


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "videos").mkdir(parents=True)
    (root / "captions.csv").write_text("file,caption\n" + "a.mp4,a cat\n" * 20_000)
    (root / "videos" / "a.mp4").write_bytes(LARGE)
    (root / "videos" / "b.mp4").write_bytes(b"small")
    return root


def digits(folder, remembered=None):
    return digest_files(files_below(folder), remembered)


def test_a_copy_elsewhere_has_the_same_digits(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert digits(tmp_path / "copy") == digits(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "videos" / "a.mp4").write_bytes(LARGE + b"1"),
        lambda root: (root / "videos" / "a.mp4").write_bytes(b"1" + LARGE[1:]),
        lambda root: (root / "videos" / "a.mp4").write_bytes(LARGE[:-1] + b"1"),
        lambda root: (root / "videos" / "b.mp4").write_bytes(b"smalL"),
        lambda root: (root / "videos" / "b.mp4").unlink(),
        lambda root: (root / "videos" / "c.mp4").write_bytes(b"new"),
        lambda root: (root / "videos" / "b.mp4").rename(root / "videos" / "c.mp4"),
        lambda root: change_the_middle(root / "captions.csv"),
    ],
    ids=["longer", "head", "tail", "small", "gone", "new", "renamed", "middle of a list"],
)
def test_every_change_changes_them(folder, tmp_path, change):
    remembered = tmp_path / "digests.json"
    before = digits(folder, remembered)
    change(folder)
    assert digits(folder) != before
    assert digits(folder, remembered) == digits(folder)


def change_the_middle(path):
    text = path.read_text()
    half = text.index("a cat", len(text) // 2)
    path.write_text(text[:half] + "a rat" + text[half + 5 :])


def test_what_is_remembered_is_not_read_again(folder, tmp_path):
    remembered = tmp_path / "digests.json"
    before = digits(folder, remembered)
    clip = folder / "videos" / "a.mp4"
    status = clip.stat()
    clip.write_bytes(LARGE[::-1])  # as nobody changes a file: its size and time stay
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digits(folder, remembered) == before != digits(folder)
    remembered.write_text("{cut sho")
    assert digits(folder, remembered) == digits(folder)


def test_what_changed_is_said_by_name(folder, tmp_path):
    remembered = tmp_path / "digests.json"
    before = digits(folder, remembered)
    (folder / "captions.csv").write_text("file,caption\na.mp4,a dog\n")
    (folder / "videos" / "b.mp4").unlink()
    for name in ("x", "y", "z"):
        (folder / "videos" / name).write_bytes(b"new")
    now = digits(folder, remembered)
    assert changed_files(before, now, remembered) == (
        "captions.csv changed, videos/x and 2 more new, videos/b.mp4 gone"
    )
    assert changed_files("0" * 12, now, remembered) == ""  # of an earlier version's run


def test_hidden_files_do_not_count_and_unreadable_ones_do(folder):
    before = digits(folder)
    (folder / ".partial").write_text("x")
    assert digits(folder) == before
    assert digest_files([("a", folder / "not_there")]) != digest_files([])


def test_nothing_is_remembered_where_no_folder_is(folder, tmp_path):
    digits(folder, tmp_path / "no" / "digests.json")
    assert not (tmp_path / "no").exists()
