import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from tests.probing import probe
from vidpref.datasets.bad_clips import BadClips, TooManyBadClips
from vidpref.datasets.video import ClipError, decode_clip, fit_clip, shown_ratio
from vidpref.datasets.video_writing import encode_clip, encode_clip_bytes

EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "videoalign_example" / "videos"


def numbered(frames, height, width):
    """A clip whose red channel says which frame it is, over gradients that show flips and crops."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    red = np.linspace(30, 220, frames)[:, None, None]
    clip = np.stack(np.broadcast_arrays(red, 60 + 120 * x / width, 60 + 120 * y / height), axis=-1)
    return clip.astype(np.uint8)


def frame_numbers(decoded, frames):
    """Which frames of `numbered(frames, ...)` a decoded clip shows."""
    red = decoded[..., 0].mean((1, 2))
    return np.round((red - 30) * (frames - 1) / 190).astype(int).tolist()


@pytest.mark.parametrize("fps", [12, 29.97, 8])
@pytest.mark.parametrize(
    ("suffix", "codec", "name"),
    [
        (".mp4", "libx264", "h264"),
        (".webm", "libvpx", "vp8"),
        (".webm", "libvpx-vp9", "vp9"),
        (".mp4", "mpeg4", "mpeg4"),
        (".avi", "mpeg4", "mpeg4"),
        (".mkv", "libx264", "h264"),
    ],
)
def test_decoded_clips_are_what_was_encoded(tmp_path, suffix, codec, name, fps):
    path = tmp_path / f"clip{suffix}"
    for height, width in ((48, 64), (45, 67)):  # odd sizes too
        clip = numbered(20, height, width)
        encode_clip(path, clip, fps, codec)
        info = probe(path)
        assert (info.width, info.height, info.frames) == (width, height, 20)
        assert info.codec == name
        assert info.fps == pytest.approx(fps, rel=1e-3)
        assert info.seconds == pytest.approx(20 / fps, rel=0.02)
        decoded = decode_clip(path, frames=20, height=height, width=width)
        assert frame_numbers(decoded, 20) == list(range(20))
        assert np.abs(decoded.astype(int) - clip).mean() < 3.0


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(1, [0]), (2, [0, 24]), (5, [0, 6, 12, 18, 24]), (9, [0, 3, 6, 9, 12, 15, 18, 21, 24])],
)
def test_even_sampling_takes_first_and_last_frame(tmp_path, frames, expected):
    path = tmp_path / "clip.webm"
    encode_clip(path, numbered(25, 32, 32), 12)
    decoded = decode_clip(path, frames=frames, height=32, width=32)
    assert frame_numbers(decoded, 25) == expected


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (24, [0, 1, 2, 3]),
        (8, [0, 3, 6, 9]),
        (6, [0, 4, 8, 12]),
        (48, [0, 0, 1, 2]),  # 0, 0.5, 1, 1.5 of a frame: a tie goes to the later frame
    ],
)
def test_sampling_at_a_rate(tmp_path, fps, expected):
    path = tmp_path / "clip.mp4"
    encode_clip(path, numbered(24, 32, 32), 24)
    decoded = decode_clip(path, frames=4, height=32, width=32, fps=fps)
    got = frame_numbers(decoded, 24)
    assert np.abs(np.subtract(got, expected)).max() <= (1 if fps == 48 else 0)


def test_variable_frame_rate_is_sampled_by_time(tmp_path):
    path = tmp_path / "vfr.mkv"
    clip = numbered(10, 32, 32)
    ticks = [0, 1, 2, 3, 4, 5, 6, 7, 8, 16]  # the ninth frame stands for half of the time
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "5"}
        for image, tick in zip(clip, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    decoded = decode_clip(path, frames=5, height=32, width=32)  # at ticks 0, 4, 8, 12, 16
    assert frame_numbers(decoded, 10)[:3] == [0, 4, 8]
    assert frame_numbers(decoded, 10)[3] in (8, 9)
    assert frame_numbers(decoded, 10)[4] == 9


def test_a_short_clip_is_refused_or_held(tmp_path):
    path = tmp_path / "clip.mp4"
    encode_clip(path, numbered(4, 32, 32), 8)
    with pytest.raises(ClipError, match="too_short: 4 frames, 8 are needed"):
        decode_clip(path, frames=8, height=32, width=32)
    with pytest.raises(ClipError, match=r"too_short: 0\.50 s; 8 frames at 8 fps are 1\.00 s"):
        decode_clip(path, frames=8, height=32, width=32, fps=8)
    held = decode_clip(path, frames=8, height=32, width=32, fps=8, short="hold")
    assert frame_numbers(held, 4) == [0, 1, 2, 3, 3, 3, 3, 3]
    spread = decode_clip(path, frames=7, height=32, width=32, short="hold")
    assert frame_numbers(spread, 4)[::2] == [0, 1, 2, 3]
    exact = decode_clip(path, frames=4, height=32, width=32, fps=8)
    assert frame_numbers(exact, 4) == [0, 1, 2, 3]


def test_aspect_ratio_is_kept_and_the_middle_cut_out(tmp_path):
    path = tmp_path / "wide.mp4"
    clip = numbered(4, 40, 120)
    encode_clip(path, clip, 8)
    square = decode_clip(path, frames=4, height=20, width=20)
    # the middle third in x: green from 60 + 120/3 to 60 + 240/3; all of y
    green, blue = square[0, :, :, 1].mean(0), square[0, :, :, 2].mean(1)
    np.testing.assert_allclose([green[0], green[-1]], [101, 139], atol=3)
    np.testing.assert_allclose([blue[0], blue[-1]], [62, 177], atol=4)


def test_downscaling_averages_areas(tmp_path):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    expected = clip.reshape(2, 8, 8, 8, 8, 3).mean((2, 4))
    fitted = fit_clip(clip, 8, 8)
    assert np.abs(fitted - expected).max() <= 2.0  # aliasing would differ by tens
    np.testing.assert_array_equal(fit_clip(clip, 64, 64), clip)
    assert fit_clip(clip, 10, 40).shape == (2, 10, 40, 3)


def test_colour_matrix_of_the_file_is_used(tmp_path):
    """The same colour, written with the matrix of high definition and tagged so."""
    path = tmp_path / "bt709.mp4"
    image = np.full((64, 64, 3), (200, 40, 60), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "5", "colorspace": "bt709", "color_range": "tv"}
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    decoded = decode_clip(path, frames=4, height=64, width=64)
    np.testing.assert_allclose(decoded.mean((0, 1, 2)), (200, 40, 60), atol=4)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotated_phone_videos_come_upright(tmp_path, turn):
    path = tmp_path / "phone.mp4"
    clip = numbered(4, 32, 64)
    encode_clip(path, clip, 8)
    one = 1 << 16
    matrix = {  # clockwise, as players show it
        90: (0, one, 0, -one, 0, 0, 0, 0, 1 << 30),
        180: (-one, 0, 0, 0, -one, 0, 0, 0, 1 << 30),
        270: (0, -one, 0, one, 0, 0, 0, 0, 1 << 30),
    }[turn]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # after version, times, ids, layer and volume
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    upright = np.rot90(clip, -turn // 90, axes=(1, 2))
    decoded = decode_clip(path, frames=4, height=upright.shape[1], width=upright.shape[2])
    assert np.abs(decoded.astype(int) - upright).mean() < 3.0
    assert shown_ratio(path) == upright.shape[2] / upright.shape[1]


def _broken(tmp_path):
    good = tmp_path / "good.mp4"
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (30, 64, 64, 3), np.uint8)
    encode_clip(good, noise, 8)
    data = good.read_bytes()
    webm = encode_clip_bytes(noise, 8, container="webm")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    # an index that promises frames whose bytes are not there
    moov = data.index(b"moov") - 4
    hollow = bytearray(data)
    for i in range(data.index(b"mdat") + 2000, moov):
        hollow[i] = 0
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "noise.webm").write_bytes(rng.bytes(5000))
    (tmp_path / "no_index.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "half.webm").write_bytes(webm[: len(webm) // 2])
    (tmp_path / "head.webm").write_bytes(webm[:60])
    (tmp_path / "hollow.mp4").write_bytes(bytes(hollow))
    (tmp_path / "folder.mp4").mkdir()


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("nowhere.mp4", {"missing"}),
        ("folder.mp4", {"unreadable"}),
        ("empty.mp4", {"empty"}),
        ("text.mp4", {"not_a_video"}),
        ("noise.webm", {"not_a_video"}),
        ("no_index.mp4", {"truncated"}),
        ("half.webm", {"truncated"}),
        ("head.webm", {"truncated", "no_frames"}),
        ("hollow.mp4", {"damaged"}),
        ("sound.mkv", {"no_frames"}),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path, name, reasons):
    _broken(tmp_path)
    with pytest.raises(ClipError) as caught:
        decode_clip(tmp_path / name, frames=8, height=16, width=16)
    error = caught.value
    assert error.reason in reasons, str(error)
    assert error.path == str(tmp_path / name)
    assert name in str(error)
    assert error.detail
    copy = pickle.loads(pickle.dumps(error))  # it may come from another process
    assert (copy.path, copy.reason, copy.detail) == (error.path, error.reason, error.detail)


def test_a_truncated_mp4_with_its_index_in_front(tmp_path):
    path = tmp_path / "clip.mp4"
    clip = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    decode_clip(path, frames=8, height=16, width=16)
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(ClipError, match="truncated") as caught:
        decode_clip(path, frames=8, height=16, width=16)
    assert caught.value.reason == "truncated"


def test_nonsense_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot decode 0 frames"):
        decode_clip(tmp_path / "x.mp4", frames=0, height=8, width=8)
    with pytest.raises(ValueError, match="unknown container 'gif'"):
        encode_clip(tmp_path / "x.gif", numbered(2, 8, 8), 8)
    with pytest.raises(ValueError, match="cannot encode 8x8 at 8 fps as nonsense in mp4"):
        encode_clip(tmp_path / "x.mp4", numbered(2, 8, 8), 8, codec="nonsense")
    assert list(tmp_path.iterdir()) == []


def test_real_generated_clips():
    if not EXAMPLES.exists():
        pytest.skip(f"no example clips at {EXAMPLES}")
    sizes = {"example_1_A": (1360, 752, 24), "example_3_B": (688, 384, 16)}
    for name, expected in sizes.items():
        info = probe(EXAMPLES / f"{name}.mp4")
        assert (info.width, info.height, info.fps) == expected
    assert probe(EXAMPLES / "example_3_B.mp4").frames == 60
    clip = decode_clip(EXAMPLES / "example_3_B.mp4", frames=8, height=48, width=80)
    assert clip.shape == (8, 48, 80, 3)
    assert clip.dtype == np.uint8
    assert clip.std() > 20
    assert np.abs(np.diff(clip.astype(int), axis=0)).mean() > 1  # it moves
    slow = decode_clip(EXAMPLES / "example_3_B.mp4", frames=8, height=48, width=80, fps=8)
    np.testing.assert_array_equal(slow[0], clip[0])


def test_bad_clips_are_counted_and_named(tmp_path):
    bad = BadClips()
    for i in range(30):
        bad.add(ClipError(tmp_path / f"{i}.webm", "missing" if i < 25 else "empty"))
    bad.add(ClipError(tmp_path / "3.webm", "damaged"))  # a path counts once
    assert len(bad) == 30
    assert bad.counts() == {"missing": 25, "empty": 5}
    assert "25  missing" in bad.table()
    assert "and 10 more" in bad.table()
    bad.write(tmp_path / "bad.csv")
    lines = (tmp_path / "bad.csv").read_text().splitlines()
    assert len(lines) == 31
    assert lines[0] == "path,reason,detail"
    assert lines[30].endswith("29.webm,empty,zero bytes")
    bad.check(1000, 0.03)
    with pytest.raises(TooManyBadClips, match=r"30 of 999 clips.*allows 29; .*bad\.csv"):
        bad.check(999, 0.03, tmp_path / "bad.csv")


def test_equal_clips_give_equal_files_however_busy_the_machine_is():
    clip = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    with ThreadPoolExecutor(12) as pool:
        written = set(pool.map(lambda _: encode_clip_bytes(clip, 8), range(500)))
    assert len(written) == 1
