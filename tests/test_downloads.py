"""What lies in place of a downloaded file is named, with what to do."""

import pickle

import pytest
import torch

from vidpref.downloads import refuse_stand_in
from vidpref.json_text import read_json
from vidpref.text_files import read_text

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"


@pytest.mark.parametrize("name", ["a.safetensors", "spiece.model", "config.json", "captions.csv"])
def test_a_pointer_of_git_lfs_is_named_wherever_it_is_read(tmp_path, name):
    path = tmp_path / name
    path.write_text(POINTER)
    readers = [refuse_stand_in, read_text, read_json]
    for reader in readers:
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
            reader(path)
        assert str(error.value) == (
            f"{path}: a pointer of git-lfs, not the file itself: run `git lfs pull` in {tmp_path}"
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file; download it again"),
        (b"\r\n <!doctype HTML><html>", "a page of HTML or XML"),
        (b"<html lang=en>", "a page of HTML or XML"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "a page of HTML or XML"),
    ],
)
def test_other_stand_ins(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.json: {message}"):
        refuse_stand_in(path)


def test_a_pickle_is_refused_as_safetensors_only(tmp_path):
    for name, write in {
        "zip": lambda path: torch.save({"a": torch.zeros(2)}, path),
        "old": lambda path: torch.save({"a": torch.zeros(2)}, path, pickle_protocol=2),
        "plain": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    }.items():
        path = tmp_path / f"{name}.safetensors"
        write(path)
        with pytest.raises(ValueError, match=f"{name}.safetensors: a pickle of PyTorch"):
            refuse_stand_in(path)
        refuse_stand_in(path.rename(tmp_path / f"{name}.bin"))


def test_what_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="a folder, where a file is wanted"):
        refuse_stand_in(tmp_path)
    with pytest.raises(ValueError, match="x: no such file"):
        refuse_stand_in(tmp_path / "x")


def test_a_good_file_passes(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"version": "https://git-lfs.github.com/spec/v1", "page": "<html>"}')
    refuse_stand_in(path)
    assert set(read_json(path)) == {"version", "page"}
