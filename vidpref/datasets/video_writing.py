"""Clips into video files, for reports, exports and tests."""

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from vidpref.files import whole_file
from vidpref.typing import Array, UInt8

# Default codec of a container, and settings that keep errors to a few grey levels. The same frames
# give the same H.264: with mbtree, x264 coded a few in a thousand otherwise on a busy machine.
_CONTAINERS = {"mp4": "libx264", "webm": "libvpx-vp9", "mkv": "libx264", "avi": "mpeg4"}
_FORMATS = {"mkv": "matroska"}
_OPTIONS = {
    "libx264": {"crf": "12", "preset": "veryfast", "x264-params": "mbtree=0"},
    "libvpx-vp9": {"crf": "12", "b": "0", "deadline": "realtime", "cpu-used": "6"},
    "libvpx": {"crf": "4", "b": "8M", "deadline": "realtime", "cpu-used": "4"},
    "mpeg4": {"qmin": "1", "qmax": "3", "flags": "+qscale", "global_quality": "118"},
}

PLAYED_FPS = 8.0  # of clips that say no rate of their own


def encode_clip(
    path: str | os.PathLike,
    clip: UInt8[Array, "t h w 3"],
    fps: float | int,
    codec: str | None = None,
) -> None:
    """Writes a video file, whole or not at all; the container follows from the suffix.

    Args:
        path: ends in .mp4, .webm, .mkv or .avi.
        clip: frames; odd sizes are kept.
        fps: frame rate.
        codec: an FFmpeg encoder; by default H.264 in mp4 and VP9 in webm.

    Raises:
        ValueError: another suffix, or a codec that the container or this FFmpeg lacks.
    """
    path = Path(path)
    data = encode_clip_bytes(clip, fps, container=path.suffix.lstrip("."), codec=codec)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def encode_clip_bytes(
    clip: UInt8[Array, "t h w 3"],
    fps: float | int,
    *,
    container: str = "mp4",
    codec: str | None = None,
) -> bytes:
    """Like `encode_clip`, in memory."""
    if container not in _CONTAINERS:
        raise ValueError(f"unknown container {container!r}: known are {', '.join(_CONTAINERS)}")
    codec = codec or _CONTAINERS[container]
    clip = np.asarray(clip)
    _, height, width, _ = clip.shape
    rate, buffer = Fraction(fps).limit_denominator(1001), io.BytesIO()
    if not rate > 0:
        raise ValueError(f"cannot encode {width}x{height} at {fps:g} fps: too slow")
    try:
        with av.open(buffer, "w", format=_FORMATS.get(container, container)) as out:
            stream = out.add_stream(codec, rate=rate)
            stream.width, stream.height = width, height
            # x264 wants even sizes of subsampled colour
            odd = (height % 2 or width % 2) and codec in ("libx264", "h264")
            stream.pix_fmt = "yuv444p" if odd else "yuv420p"
            stream.options = _OPTIONS.get(codec, {})
            for image in clip:
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    except (av.error.FFmpegError, av.codec.codec.UnknownCodecError, OverflowError) as error:
        raise ValueError(
            f"cannot encode {width}x{height} at {fps:g} fps as {codec} in {container}: {error}"
        ) from error
    return buffer.getvalue()
