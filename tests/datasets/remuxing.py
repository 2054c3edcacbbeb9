"""Video files for tests, cut and damaged without encoding, as other programs leave them."""

import io
import struct

import av
import numpy as np

# Muxers by suffix, and an encoder that each of them takes.
MUXERS = {"mkv": "matroska", "ts": "mpegts"}
ENCODERS = {"webm": "libvpx-vp9", "flv": "libx264", "gif": "gif", "avi": "mpeg4"}
ONE_KEYFRAME = {"g": "999", "x264-params": "scenecut=0:bframes=3", "crf": "10"}
OPEN_GOP = {"g": "12", "x264-params": "open-gop=1:scenecut=0:bframes=3", "crf": "10"}


def numbered(frames, size=32):
    """Grey frames whose level says which one it is."""
    levels = np.linspace(20, 220, frames).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (frames, size, size, 3))


def numbers(clip, frames):
    """Which frames of `numbered(frames)` a clip shows."""
    level = clip.reshape(len(clip), -1).astype(float).mean(1)
    return np.round((level - 20) * (frames - 1) / 200).astype(int).tolist()


def encoded(clip, fps, container="mp4", *, codec=None, options=None, muxer=None, pix_fmt=None):
    """A clip as the bytes of a file."""
    file = io.BytesIO()
    codec = codec or ENCODERS.get(container, "libx264")
    with av.open(file, "w", format=MUXERS.get(container, container), options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = pix_fmt or ("rgb8" if codec == "gif" else "yuv420p")
        for image in clip:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def remuxed(data, container, *, begin=0.0, from_keyframe=False, held=None, muxer=None):
    """Copies packets into another file without decoding them.

    Args:
        data: bytes of a file.
        container: suffix of the new one.
        begin: new origin of time, in seconds; what lies before gets negative times, or none.
        from_keyframe: leave out packets before the last keyframe that is not behind `begin`.
        held: duration of the last packet, in seconds.
        muxer: options of the muxer.
    """
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as read,
        av.open(file, "w", format=MUXERS.get(container, container), options=muxer or {}) as out,
    ):
        stream = read.streams.video[0]
        packets = [packet for packet in read.demux(stream) if packet.size]
        if from_keyframe:
            keys = [
                i for i, p in enumerate(packets) if p.is_keyframe and p.pts * p.time_base <= begin
            ]
            packets = packets[keys[-1] :]
        copy = out.add_stream_from_template(stream)
        for i, packet in enumerate(packets):
            shift = round(begin / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if held is not None and i == len(packets) - 1:
                packet.duration = round(held / packet.time_base)
            packet.stream = copy
            out.mux(packet)
    return file.getvalue()


def with_edits(data, edits):
    """Replaces the edit list of an MP4 whose index is at its end.

    Args:
        data: bytes of the file.
        edits: (milliseconds, time in the stream's own units, or -1 for nothing).
    """
    data = bytearray(data)
    at, inside, end = [], 0, len(data)
    for name in (b"moov", b"trak", b"edts", b"elst"):
        while data[inside + 4 : inside + 8] != name:
            inside += struct.unpack_from(">I", data, inside)[0]
            assert inside < end
        at.append(inside)
        end, inside = inside + struct.unpack_from(">I", data, inside)[0], inside + 8
    old = struct.unpack_from(">I", data, at[-1])[0]
    rows = b"".join(struct.pack(">IiI", *edit, 1 << 16) for edit in edits)
    new = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    for outer in at[:-1]:
        struct.pack_into(">I", data, outer, struct.unpack_from(">I", data, outer)[0])
        size = struct.unpack_from(">I", data, outer)[0] + len(new) - old
        struct.pack_into(">I", data, outer, size)
    data[at[-1] : at[-1] + old] = new
    return bytes(data)
