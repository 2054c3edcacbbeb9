"""A last frame that is shown for long, and files that really lack their end."""

import io

import av
import numpy as np
import PIL.Image
import pytest

from tests.datasets.remuxing import encoded, numbered, numbers, remuxed
from vidpref.datasets.video import ClipError, decode_clip

SIZE = {"height": 32, "width": 32}


def gif(clip, delays):
    """Written by Pillow; delays in milliseconds."""
    first, *others = [PIL.Image.fromarray(image) for image in clip]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=delays, loop=0)
    return file.getvalue()


def long_ended(container):
    """Eight frames, an eighth of a second each but for the last, which is shown for 3 s."""
    clip = numbered(8)
    if container == "gif":
        return gif(clip, [120] * 7 + [3000])
    codec = "webm" if container == "webm" else "mp4"
    muxer = {"movflags": "frag_keyframe+empty_moov"} if container == "fragments.mp4" else None
    options = {"bf": "0"} if codec == "mp4" else None
    data = encoded(clip, 8, codec, options=options)
    return remuxed(data, container.removeprefix("fragments."), held=3.0, muxer=muxer)


@pytest.mark.parametrize("container", ["gif", "webm", "mkv", "mp4", "mov", "fragments.mp4", "flv"])
def test_a_long_last_frame_is_held_to_its_end(tmp_path, container):
    path = tmp_path / f"long.{container}"
    path.write_bytes(long_ended(container))
    assert numbers(decode_clip(path, frames=8, **SIZE), 8) == [*range(8)]
    taken = numbers(decode_clip(path, frames=15, fps=4, **SIZE), 8)  # up to 3.5 s
    assert taken == [0, 2, 4, 6, *[7] * 11]
    with pytest.raises(ClipError, match=r"too_short: 3\.8\d s; 20 frames at 4 fps are 5\.00 s"):
        decode_clip(path, frames=20, fps=4, **SIZE)


def test_empty_chunks_of_an_avi_stand_for_time(tmp_path):
    """Frames an eighth of a second apart, but for the last, at 2.875 s."""
    data = encoded(numbered(8), 8, "avi")
    path = tmp_path / "gap.avi"
    with av.open(io.BytesIO(data)) as read, av.open(str(path), "w") as out:
        stream = read.streams.video[0]
        packets = [packet for packet in read.demux(stream) if packet.size]
        copy = out.add_stream_from_template(stream)
        for i, packet in enumerate(packets):
            gap = 16 if i == 7 else 0
            packet.pts, packet.dts = packet.pts + gap, packet.dts + gap
            packet.stream = copy
            out.mux(packet)
    taken = decode_clip(path, frames=12, fps=4, **SIZE)
    assert numbers(taken, 8) == [0, 2, 4, 6, 6, 6, 6, 6, 7, 7, 7, 7]


def test_a_tag_of_another_file_does_not_make_it_longer(tmp_path):
    """Programs that cut Matroska leave the duration of the whole among the tags."""
    data = encoded(numbered(16), 8, "webm")
    tagged = data.replace(b"00:00:02.000000000", b"00:00:09.000000000")
    assert tagged != data
    path = tmp_path / "tagged.webm"
    path.write_bytes(tagged)
    assert numbers(decode_clip(path, frames=8, fps=4, **SIZE), 16) == [*range(0, 16, 2)]
    with pytest.raises(ClipError, match=r"too_short: 2\.00 s"):
        decode_clip(path, frames=9, fps=4, **SIZE)
    path.write_bytes(data.replace(b"00:00:02.000000000", b"two:or:three second"[:18]))
    assert len(decode_clip(path, frames=8, fps=4, **SIZE)) == 8


def noise(container, folder):
    clip = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    if container == "gif":
        return gif(clip, 120)
    kind, _, suffix = container.rpartition(".")
    if kind == "front":  # its muxer reads the file again
        (folder / "back.mp4").write_bytes(encoded(clip, 8))
        with (
            av.open(str(folder / "back.mp4")) as read,
            av.open(str(folder / "front.mp4"), "w", options={"movflags": "faststart"}) as out,
        ):
            copy = out.add_stream_from_template(read.streams.video[0])
            for packet in read.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
        return (folder / "front.mp4").read_bytes()
    muxer = {"movflags": "frag_keyframe+empty_moov"} if kind == "fragments" else None
    return encoded(clip, 8, suffix, muxer=muxer)


@pytest.mark.parametrize(
    "container", ["gif", "webm", "mkv", "mp4", "front.mp4", "fragments.mp4", "mov", "flv", "avi"]
)
def test_every_cut_off_file_is_noticed(tmp_path, container):
    data = noise(container, tmp_path)
    path = tmp_path / f"half.{container}"
    path.write_bytes(data)
    assert decode_clip(path, frames=24, height=16, width=16).shape == (24, 16, 16, 3)
    for part in range(4, 100, 6):
        path.write_bytes(data[: len(data) * part // 100])
        with pytest.raises(ClipError) as caught:
            decode_clip(path, frames=2, height=16, width=16, short="hold")
        assert caught.value.reason in ("truncated", "no_frames", "not_a_video"), caught.value
        assert part < 20 or caught.value.reason == "truncated", (part, caught.value)


@pytest.mark.parametrize("container", ["gif", "mp4", "webm", "avi"])
def test_bytes_behind_a_whole_file_do_not_matter(tmp_path, container):
    data = encoded(numbered(8), 8, container)
    path = tmp_path / f"more.{container}"
    for more in (b"\0" * 64, b"TAG" + b"a title" * 17, bytes(range(256))):
        path.write_bytes(data + more)
        assert len(decode_clip(path, frames=8, **SIZE)) == 8
