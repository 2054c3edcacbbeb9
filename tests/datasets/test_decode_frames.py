import numpy as np
import pytest

from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.video import decode_clip, decode_frames
from vidpref.datasets.video_writing import encode_clip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Twelve frames, each of one grey."""
    clip = np.empty((12, 18, 34, 3), np.uint8)
    clip[:] = (20 * np.arange(12))[:, None, None, None]
    path = tmp_path_factory.mktemp("clips") / "grey.mp4"
    encode_clip(path, clip, 6)
    return path


def greys(clip):
    return np.round(clip.mean((1, 2, 3)) / 20).astype(int).tolist()


def test_all_frames_at_the_videos_own_size(path):
    clip, timing = decode_frames(path)
    assert clip.shape == (12, 18, 34, 3)
    assert greys(clip) == list(range(12))
    assert (timing.frames, timing.shown_rate) == (12, 6.0)
    np.testing.assert_array_equal(clip, decode_clip(path, frames=12, height=18, width=34))


@pytest.mark.parametrize(
    ("most", "seen"), [(4, [0, 4, 7, 11]), (1, [0]), (12, range(12)), (99, range(12))]
)
def test_a_few_evenly_spaced(path, most, seen):
    clip, timing = decode_frames(path, most)
    assert greys(clip) == list(seen)
    assert timing.frames == 12


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(ClipError, match="not_a_video"):
        decode_frames(tmp_path / "x.mp4")
