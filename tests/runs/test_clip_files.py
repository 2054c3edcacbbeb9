"""Drawn clips are kept, whatever happens while they are written."""

import re
import tempfile

import numpy as np
import pytest

from vidpref.datasets import video_writing
from vidpref.datasets.video import decode_clip
from vidpref.runs.clip_files import ClipFiles, NotWritten
from vidpref.runs.own_inputs import read_noise, read_prompts

CLIP = np.full((3, 16, 16, 3), 90, np.uint8)
LATENT = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files go."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def draw(files, count):
    for _ in range(count):
        files.add(CLIP, LATENT, 8.0)


def test_one_name_stands_for_several_clips(tmp_path):
    with ClipFiles(str(tmp_path / "new" / "v.mp4"), 2, str(tmp_path / "l.npy")) as files:
        draw(files, 2)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["v-000.mp4", "v-001.mp4"]
    np.testing.assert_array_equal(np.load(tmp_path / "l.npy")[1], np.moveaxis(LATENT, -1, 0))


def test_clips_of_a_full_disk_are_put_elsewhere_and_the_place_is_named(
    tmp_path, temporary, monkeypatch
):
    full = tmp_path / "full"
    encode_clip = video_writing.encode_clip

    def encode(path, clip, fps):
        if path.parent == full and path.name != "000.mp4":
            raise OSError(28, "No space left on device", str(path))
        encode_clip(path, clip, fps)

    monkeypatch.setattr(video_writing, "encode_clip", encode)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    files = ClipFiles(f"{full}/", 3, str(tmp_path / "l.npy"))
    with pytest.raises(NotWritten, match="No space left on device") as caught, files:
        draw(files, 3)
    (elsewhere,) = temporary.iterdir()
    assert not list(here.iterdir())
    assert str(elsewhere) in str(caught.value)
    assert str(full) in str(caught.value)
    assert [p.name for p in full.iterdir()] == ["000.mp4"]
    assert sorted(p.name for p in elsewhere.iterdir()) == ["001.mp4", "002.mp4", "l.npy"]
    assert decode_clip(elsewhere / "002.mp4", frames=3, height=16, width=16).mean() > 80


def test_a_folder_that_became_a_file_is_found_out_in_time(tmp_path, temporary):
    files = ClipFiles(str(tmp_path / "a" / "b.mp4"), 1)
    files.check()
    (tmp_path / "a").touch()
    with pytest.raises(NotWritten), files:
        draw(files, 1)
    assert len(list(temporary.glob("*/b.mp4"))) == 1


def test_frames_that_cannot_be_encoded_are_kept_as_an_array(tmp_path, temporary):
    files = ClipFiles(str(tmp_path / "v.avi"), 1)
    with pytest.raises(NotWritten, match="cannot encode"), files:
        files.add(CLIP, None, 1e9)
    (kept,) = temporary.glob("*/v.npy")
    np.testing.assert_array_equal(np.load(kept), CLIP)


def test_an_error_while_drawing_names_what_there_is(tmp_path):
    def broken():
        draw(files, 2)
        raise MemoryError

    files = ClipFiles(f"{tmp_path}/", 3, str(tmp_path / "l.npy"))
    with pytest.raises(MemoryError) as caught, files:
        broken()
    assert caught.value.__notes__ == [f"2 of 3 clips are drawn: they are in {tmp_path}"]
    assert len(np.load(tmp_path / "l.npy")) == 2


def test_a_rate_or_a_suffix_that_cannot_be_encoded_is_refused_before(tmp_path):
    with pytest.raises(ValueError, match="unknown container 'gif'"):
        ClipFiles("v.gif", 1).check_encoding(16, 16, 8.0)
    for fps in (1e-9, 1e12, 1e300):
        with pytest.raises(ValueError, match=re.escape(f"cannot encode 16x16 at {fps:g} fps")):
            ClipFiles("v.mp4", 1).check_encoding(16, 16, fps)
    ClipFiles("v.mp4", 1).check_encoding(17, 15, 8.0)


def test_a_folder_without_permission_is_refused_before(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as root may write everywhere
    with pytest.raises(ValueError, match="no permission to write in"):
        ClipFiles(str(tmp_path / "new" / "v.mp4"), 1).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3)), r"has shape \(2, 3\), wanted \(clips, channels"),
        (np.full((1, 1, 1, 1, 1), np.nan), "wanted finite numbers"),
        (np.full((1, 1, 1, 1, 1), "a"), "wanted finite numbers"),
        (np.zeros((1, 1, 1, 1, 1), complex), "wanted finite numbers"),
        (np.full((1, 1, 1, 1, 1), None), "no array of numpy can be read"),
    ],
)
def test_noise_that_is_none_is_refused(values, message, tmp_path):
    np.save(tmp_path / "n.npy", values)
    with pytest.raises(ValueError, match=f"--init_noise=.*{message}"):
        read_noise("init_noise", str(tmp_path / "n.npy"), 5)


def test_several_arrays_are_no_noise(tmp_path):
    np.savez(tmp_path / "n.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match="several arrays"):
        read_noise("init_noise", str(tmp_path / "n.npz"), 5)


def test_noise_gets_its_channels_last(tmp_path):
    np.save(tmp_path / "n.npy", np.zeros((1, 16, 2, 3, 4)))
    noise = read_noise("init_noise", str(tmp_path / "n.npy"), 5)
    assert (noise.shape, noise.dtype) == ((1, 2, 3, 4, 16), np.float32)


def test_prompts_are_lines_whatever_the_editor_adds(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbf a cat \r\n\r\nno dog\r\n")
    assert read_prompts("prompts_file", str(tmp_path / "p.txt")) == ["a cat", "no dog"]
    (tmp_path / "p.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"--prompts_file=.* has no prompt"):
        read_prompts("prompts_file", str(tmp_path / "p.txt"))
