"""Good files with something odd about them, and the reasons of others that cannot be read."""

import io
import os
import struct
from fractions import Fraction

import av
import numpy as np
import PIL.Image
import pytest

from tests.datasets.remuxing import encoded, numbered, numbers
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.video import ClipError, decode_clip, shown_ratio

SIZE = {"height": 32, "width": 32}
NOT_UTF8 = b"caf\xe9 \xff\xfe title"


def tagged(container, where):
    """A file with a tag that is not UTF-8, of the whole, of its stream or of a chapter."""
    source = io.BytesIO(encoded(numbered(8), 8, container))
    file, text = io.BytesIO(), "x" * len(NOT_UTF8)
    name = {"mkv": "matroska"}.get(container, container)
    with av.open(source) as read, av.open(file, "w", format=name) as out:
        stream = read.streams.video[0]
        copy = out.add_stream_from_template(stream)
        if where == "chapter":
            times = {"start": 0, "end": 500, "time_base": Fraction(1, 1000)}
            out.set_chapters([{"id": 1, "metadata": {"title": text}, **times}])
        else:
            tags = out.metadata if where == "file" else copy.metadata
            tags.update({"title": text, "handler_name": text})
        for packet in read.demux(stream):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    data = file.getvalue()
    assert text.encode() in data
    return data.replace(text.encode(), NOT_UTF8)


@pytest.mark.parametrize(
    ("container", "where"),
    [
        *[(container, "file") for container in ("mp4", "mov", "mkv", "webm", "avi", "flv")],
        *[(container, "stream") for container in ("mp4", "mov", "mkv", "webm", "avi")],
        *[(container, "chapter") for container in ("mp4", "mkv", "webm")],
    ],
)
def test_tags_do_not_matter(tmp_path, container, where):
    path = tmp_path / f"tagged.{container}"
    path.write_bytes(tagged(container, where))
    assert numbers(decode_clip(path, frames=8, **SIZE), 8) == [*range(8)]
    assert shown_ratio(path) == 1.0


@pytest.mark.parametrize(
    ("container", "known", "unknown"),
    [
        ("mp4", b"avc1", b"xyz1"),
        ("mov", b"avc1", b"xyz1"),
        ("mp4", b"avc1", b"encv"),  # encrypted
        ("mkv", b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC"),
        ("webm", b"V_VP9", b"V_VP7"),
        ("avi", b"FMP4", b"xyz1"),
    ],
)
def test_an_unknown_codec_is_named(tmp_path, container, known, unknown):
    path = tmp_path / f"unknown.{container}"
    path.write_bytes(encoded(numbered(8), 8, container).replace(known, unknown))
    for read in (shown_ratio, lambda path: decode_clip(path, frames=8, **SIZE)):
        with pytest.raises(ClipError, match=f"no decoder for '{unknown.decode()}'") as caught:
            read(path)
        assert caught.value.reason == "unknown_codec"


def test_names_that_ffmpeg_would_read_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = encoded(numbered(8), 8)
    for name in ("12:30.mp4", "100%d.mp4", "-i.mp4", os.fsdecode(b"caf\xe9.mp4")):
        (tmp_path / name).write_bytes(data)
        assert numbers(decode_clip(name, frames=8, **SIZE), 8) == [*range(8)]
    bad = BadClips()
    bad.note(os.fsdecode(b"caf\xe9.mp4"), "missing", "no such file")
    bad.write(tmp_path / "bad.csv")
    assert r"caf\udce9.mp4,missing" in (tmp_path / "bad.csv").read_text("utf-8")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero", "a\0b.mp4", "a" * 300 + ".mp4"):
        with pytest.raises(ClipError, match="unreadable"):
            decode_clip(path, frames=8, **SIZE)


def test_lists_of_other_files_are_not_followed(tmp_path):
    (tmp_path / "good.ts").write_bytes(encoded(numbered(8), 8, "ts"))
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\ngood.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile good.ts\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(ClipError, match="not_a_video"):
            decode_clip(tmp_path / name, frames=8, **SIZE)


def test_a_palette_is_kept(tmp_path):
    """AVI gives it once, in front of the first frame."""
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (256, 3), np.uint8)
    images = rng.integers(0, 256, (4, 32, 32), np.uint8)
    with av.open(str(tmp_path / "palette.avi"), "w") as out:
        stream = out.add_stream("rawvideo", rate=8)
        stream.height = stream.width = 32
        stream.pix_fmt = "pal8"
        for image in images:
            opaque = np.insert(palette, 0, 255, axis=1)  # alpha first
            frame = av.VideoFrame.from_ndarray((image, opaque), format="pal8")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    decoded = decode_clip(tmp_path / "palette.avi", frames=4, **SIZE)
    np.testing.assert_array_equal(decoded, palette[images])


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tiff", "webp"])
def test_a_picture_is_a_clip_of_one_frame(tmp_path, suffix):
    image = numbered(8)[3]
    PIL.Image.fromarray(image).save(tmp_path / f"picture.{suffix}")
    decoded = decode_clip(tmp_path / f"picture.{suffix}", frames=1, **SIZE)
    assert np.abs(decoded[0].astype(int) - image).max() <= 3
    with pytest.raises(ClipError, match="too_short: 1 frames, 2 are needed"):
        decode_clip(tmp_path / f"picture.{suffix}", frames=2, **SIZE)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "container"),
    [
        ("libx264", "yuv420p10le", "mp4"),
        ("libx264", "gray", "mp4"),
        ("libx264", "yuv444p", "mp4"),
        ("libvpx-vp9", "yuva420p", "webm"),
        ("ffv1", "gray16le", "mkv"),
        ("ffv1", "bgra", "mkv"),
        ("prores_ks", "yuv422p10le", "mov"),
        ("mjpeg", "yuvj420p", "avi"),
        ("png", "rgba", "mov"),
        ("rawvideo", "yuv420p", "mkv"),
        ("mpeg2video", "yuv420p", "ts"),
        ("flv", "yuv420p", "flv"),
    ],
)
def test_formats_of_pixels(tmp_path, codec, pix_fmt, container):
    path = tmp_path / f"clip.{container}"
    rate = 24 if codec == "mpeg2video" else 8
    options = {"color_range": "pc"} if pix_fmt == "gray" else {}
    clip = encoded(numbered(8), rate, container, codec=codec, pix_fmt=pix_fmt, options=options)
    path.write_bytes(clip)
    assert numbers(decode_clip(path, frames=8, **SIZE), 8) == [*range(8)]


def test_frames_may_change_their_size(tmp_path):
    parts = [encoded(numbered(8, size), 8, "h264") for size in (32, 48)]
    (tmp_path / "two.h264").write_bytes(b"".join(parts))
    decoded = decode_clip(tmp_path / "two.h264", frames=16, **SIZE)
    assert numbers(decoded, 8) == [*range(8)] * 2


def test_a_cover_picture_is_not_the_video(tmp_path):
    cover = io.BytesIO()
    PIL.Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(cover, "PNG")
    path = tmp_path / "covered.mp4"
    with (
        av.open(io.BytesIO(cover.getvalue())) as picture,
        av.open(io.BytesIO(encoded(numbered(8), 8))) as video,
        av.open(str(path), "w") as out,
    ):
        copies = {}
        for read in (picture, video):
            copies[read] = out.add_stream_from_template(read.streams.video[0])
        copies[picture].disposition = av.stream.Disposition.attached_pic
        for read, copy in copies.items():
            for packet in read.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    assert numbers(decode_clip(path, frames=8, **SIZE), 8) == [*range(8)]


def test_a_sound_may_come_later(tmp_path):
    """PyAV does not know of streams that show up after those it saw first."""
    data = bytearray(encoded(numbered(100), 8, "flv"))
    last = len(data) - 4 - struct.unpack(">I", data[-4:])[0]
    sound = b"\x08\x00\x00\x02\x00\x30\xd4\x00\x00\x00\x00" + b"\x2f\xff"
    data[last:last] = sound + struct.pack(">I", len(sound))
    data = data.replace(b"\x00\x08filesize\x00", b"\x00\x08filesizf\x00")
    (tmp_path / "clip.flv").write_bytes(data)
    decoded = decode_clip(tmp_path / "clip.flv", frames=10, **SIZE)
    assert numbers(decoded, 10) == [*range(10)]


@pytest.mark.parametrize("aspect", [(1, 2**31 - 1), (2**31 - 1, 1), (1, 0), (0, 1)])
def test_pixels_of_no_shape(tmp_path, aspect):
    with av.open(str(tmp_path / "clip.mov"), "w") as out:
        stream = out.add_stream("png", rate=8)
        stream.height = stream.width = 32
        stream.pix_fmt = "rgb24"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for image in numbered(8):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    data = (tmp_path / "clip.mov").read_bytes()
    assert shown_ratio(tmp_path / "clip.mov") == 1.5
    stated = b"pasp" + struct.pack(">II", 3, 2)
    assert stated in data
    (tmp_path / "clip.mov").write_bytes(data.replace(stated, b"pasp" + struct.pack(">II", *aspect)))
    if 0 in aspect:  # says nothing
        assert numbers(decode_clip(tmp_path / "clip.mov", frames=8, **SIZE), 8) == [*range(8)]
        return
    with pytest.raises(ClipError, match="damaged: 32x32 would have to be scaled"):
        decode_clip(tmp_path / "clip.mov", frames=8, **SIZE)


def test_a_frame_larger_than_any_is_damage(tmp_path):
    data = encoded(numbered(8), 8, "avi", codec="rawvideo", pix_fmt="bgr24")
    at = data.index(b"strf") + 12
    large = data[:at] + struct.pack("<ii", 15_000, 15_000) + data[at + 8 :]
    (tmp_path / "large.avi").write_bytes(large)
    with pytest.raises(ClipError, match="damaged: frames of 15000x15000, it says"):
        decode_clip(tmp_path / "large.avi", frames=8, **SIZE)
