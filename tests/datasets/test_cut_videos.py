"""Files that were cut without encoding show fewer frames than they hold."""

import io

import av
import numpy as np
import pytest

from tests.datasets.remuxing import (
    ONE_KEYFRAME,
    OPEN_GOP,
    encoded,
    numbered,
    numbers,
    remuxed,
    with_edits,
)
from vidpref.datasets.video import ClipError, decode_clip, shown_ratio

SIZE = {"height": 32, "width": 32}


@pytest.fixture(scope="module")
def base():
    """48 frames in 2 s; only the first is a keyframe, and frames are not stored in their order."""
    return encoded(numbered(48), 24, options=ONE_KEYFRAME)


def shown(path):
    """The numbers of all frames that a file shows."""
    with pytest.raises(ClipError, match=r"too_short: (\d+) frames") as caught:
        decode_clip(path, frames=1000, **SIZE)
    count = int(caught.value.detail.split()[0])
    return numbers(decode_clip(path, frames=count, **SIZE), 48)


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_only_visible_frames_count(tmp_path, base, container):
    path = tmp_path / f"cut.{container}"
    path.write_bytes(remuxed(base, container, begin=1.5))
    assert shown(path) == [*range(36, 48)]
    spread = numbers(decode_clip(path, frames=8, **SIZE), 48)
    assert len(set(spread)) == 8
    np.testing.assert_allclose(spread, np.linspace(36, 47, 8), atol=0.5001)
    assert numbers(decode_clip(path, frames=6, fps=12, **SIZE), 48) == [*range(36, 48, 2)]
    with pytest.raises(ClipError, match=r"too_short: 0\.50 s; 7 frames at 12 fps are 0\.58 s"):
        decode_clip(path, frames=7, fps=12, **SIZE)
    held = decode_clip(path, frames=8, fps=12, short="hold", **SIZE)
    assert numbers(held, 48) == [36, 38, 40, 42, 44, 46, 47, 47]
    assert shown_ratio(path) == 1.0


@pytest.mark.parametrize("container", ["mkv", "flv", "ts"])
def test_containers_without_edit_lists_show_all(tmp_path, base, container):
    path = tmp_path / f"cut.{container}"
    path.write_bytes(remuxed(base, container, begin=-0.5))
    shows_two_seconds(path)


def test_avi_has_an_order_of_storing_only(tmp_path):
    path = tmp_path / "reordered.avi"
    path.write_bytes(encoded(numbered(48), 24, "avi", codec="libx264", options=ONE_KEYFRAME))
    shows_two_seconds(path)


def shows_two_seconds(path):
    assert shown(path) == [*range(48)]
    taken = numbers(decode_clip(path, frames=16, fps=8, **SIZE), 48)
    assert taken == [*range(0, 48, 3)]
    with pytest.raises(ClipError, match=r"too_short: 2\.00 s"):
        decode_clip(path, frames=17, fps=8, **SIZE)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "flv"])
def test_frames_in_front_of_the_first_keyframe_are_passed_over(tmp_path, container):
    """Behind it in the file, they need the group of pictures that was cut off."""
    data = encoded(numbered(48), 24, options=OPEN_GOP)
    path = tmp_path / f"cut.{container}"
    path.write_bytes(remuxed(data, container, begin=1.5, from_keyframe=True))
    assert shown(path) == [*range(36, 48)]
    assert numbers(decode_clip(path, frames=6, fps=12, **SIZE), 48) == [*range(36, 48, 2)]
    with pytest.raises(ClipError, match=r"too_short: 0\.50 s"):
        decode_clip(path, frames=7, fps=12, **SIZE)


@pytest.mark.parametrize(("codec", "first"), [("libx264", 24), ("mpeg2video", 28)])
def test_a_file_may_begin_between_keyframes(tmp_path, codec, first):
    """Transport streams are cut anywhere; their headers come with each keyframe."""
    options = {"g": "12", "bf": "0", "x264-params": "scenecut=0"}
    data = encoded(numbered(48), 24, "ts", codec=codec, options=options)
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert next(i for i, p in enumerate(packets) if p.is_keyframe and i >= 20) == first
    path = tmp_path / "cut.ts"
    path.write_bytes(data[packets[20].pos :])
    assert shown(path) == [*range(first, 48)]


@pytest.mark.parametrize("origin", [0, 1024])
@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([(500, 36)], [*range(36, 48)]),
        ([(500, 0)], [*range(12)]),
        ([(500, 12)], [*range(12, 24)]),
        ([(500, 0), (500, 36)], [*range(12), *range(36, 48)]),
        ([(500, 36), (500, 0)], [*range(36, 48), *range(12)]),
        ([(1000, 0), (1000, 0)], [*range(24), *range(24)]),
        ([(700, None), (500, 30)], [*range(30, 42)]),
        ([(5000, 0)], [*range(48)]),
    ],
)
def test_edit_lists(tmp_path, origin, edits, expected):
    """The frames that FFmpeg's program writes for these files, with and without reordering."""
    options = ONE_KEYFRAME if origin else {"g": "999", "bf": "0", "sc_threshold": "0"}
    data = encoded(numbered(48), 24, options=options)
    path = tmp_path / "edited.mp4"
    ticks = [(time, -1 if frame is None else origin + 512 * frame) for time, frame in edits]
    path.write_bytes(with_edits(data, ticks))
    clip = decode_clip(path, frames=2, **SIZE)
    assert numbers(clip, 48) == [expected[0], expected[-1]]
    count = len(expected)
    with pytest.raises(ClipError, match=f"too_short: {count} frames, {count + 1} are needed"):
        decode_clip(path, frames=count + 1, **SIZE)
    if (origin, len(edits)) != (1024, 2):  # between reordered pieces FFmpeg leaves a gap
        assert shown(path) == expected
        seconds = count / 24
        with pytest.raises(ClipError, match=f"too_short: {seconds:.2f} s"):
            decode_clip(path, frames=count + 1, fps=24, **SIZE)
