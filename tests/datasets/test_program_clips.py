"""Folders of videos of other programs."""

import pytest

from vidpref.datasets.program_clips import program_clips


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_names_may_say_prompts(tmp_path):
    touch(tmp_path, "b/a cat-0.mp4", "b/a cat-11.mp4", "a/half-time.webm", "notes.txt", "x-1-2.mov")
    found = program_clips(tmp_path, named_by_prompts=True).clips
    assert found["id"].tolist() == [
        "a/half-time.webm",
        "b/a cat-0.mp4",
        "b/a cat-11.mp4",
        "x-1-2.mov",
    ]
    assert found["prompt"].tolist() == ["half-time", "a cat", "a cat", "x-1"]
    assert set(program_clips(tmp_path).clips["prompt"]) == {""}


def test_captions_and_prompts_count_where_they_are(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    found = program_clips(tmp_path, tmp_path / "prompts.txt").clips
    assert found["prompt"].tolist() == ["one", "two"]
    (tmp_path / "captions.csv").write_text("file,caption\n1.mp4,first\n")
    found = program_clips(tmp_path).clips
    assert (found["id"].tolist(), found["prompt"].tolist()) == (["1.mp4"], ["first"])


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no video in it \(\.avi"):
        program_clips(tmp_path)
