"""Opening video files: their video stream, its packets and frames, and FFmpeg's errors by clip."""

import contextlib
import mmap
import os
import re
import stat
from collections.abc import Iterator

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.video_wholeness import missing_bytes

# First bytes by which a file that cannot be opened still shows that it was a video once.
_SIGNATURES = (
    (0, b"\x1a\x45\xdf\xa3"),
    (4, b"ftyp"),
    (0, b"RIFF"),
    (0, b"OggS"),
    (0, b"FLV\x01"),
    (0, b"GIF8"),
)
# FFmpeg draws text files, and follows lists of other files.
_NOT_VIDEOS = frozenset({"tty", "ansi", "hls", "concat", "dash", "sdp"})
# Where containers name a codec: the sample table of MP4, CodecID of Matroska, header of AVI.
_CODEC_NAMES = re.compile(rb"stsd.{12}(.{4})|\x86.(V_[\w/]+)|vids(.{4})", re.DOTALL)
# Half as much again as 16K. A damaged header may promise more than any memory holds.
MOST_PIXELS = 200_000_000


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file and its first video stream that is no cover picture.

    Raises:
        ClipError: it is no video that can be decoded; also for FFmpeg's errors while it is open.
    """
    head = _head(path)
    once = any(head[at : at + len(sign)] == sign for at, sign in _SIGNATURES)
    try:
        container = av.open(
            os.path.abspath(path),  # "12:30.mp4" would be taken for a protocol
            metadata_errors="replace",  # tags do not matter
            container_options={"protocol_whitelist": "file"},
        )
    except (av.error.FFmpegError, MemoryError) as error:
        detail = "starts like a video but its index cannot be read" if once else _what(error)
        raise ClipError(path, "truncated" if once else "not_a_video", detail) from None
    with container:
        stream = _video_stream(path, container, once)
        try:
            yield container, stream
        except (av.error.FFmpegError, MemoryError) as error:
            raise ClipError(path, "damaged", _what(error)) from None


def _what(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)  # without number and path


def _head(path: str | os.PathLike) -> bytes:
    try:
        # opening a pipe would wait for its other end
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise ClipError(path, "unreadable", "a device or a pipe, not a file")
        with open(path, "rb") as file:
            head = file.read(16)
    except ClipError:
        raise
    except FileNotFoundError:
        raise ClipError(path, "missing") from None
    except OSError as error:
        raise ClipError(path, "unreadable", str(error)) from None
    except ValueError as error:
        raise ClipError(path, "unreadable", f"not a file's name: {error}") from None
    if not head:
        raise ClipError(path, "empty")
    return head


def _video_stream(path: str | os.PathLike, container: InputContainer, once: bool) -> VideoStream:
    if container.format.name in _NOT_VIDEOS:
        raise ClipError(path, "not_a_video", "text, or a list of other files")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    reason = "no_frames" if once else "not_a_video"
    if not streams:
        raise ClipError(path, reason, "no video stream")
    stream = streams[0]
    if stream.codec_context is None:  # PyAV has no context without a decoder
        if missing_bytes(path, container, stream):
            raise ClipError(path, "truncated", "ends within its header")
        name = _codec_name(path, stream)
        detail = f"FFmpeg has no decoder for {name}, or its header is damaged" if name else ""
        raise ClipError(path, "unknown_codec", detail)
    if not stream.width or not stream.height:
        raise ClipError(path, reason, "a video stream without a size")
    if stream.width * stream.height > MOST_PIXELS:
        raise ClipError(path, "damaged", f"frames of {stream.width}x{stream.height}, it says")
    return stream


def _codec_name(path: str | os.PathLike, stream: VideoStream) -> str | None:
    """What the header calls the stream's codec, in quotes."""
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        names = [b"".join(groups) for groups in _CODEC_NAMES.findall(data)]
    # MP4 lists all streams, the others only those of video
    name = names[min(stream.index, len(names) - 1)] if names else b""
    return repr(name.decode("ascii", "replace")) if name else None


def _demuxed(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    try:
        yield from container.demux(stream)
    except IndexError:  # PyAV's, at the end, where a file has a further stream midway
        return


def packets(
    path: str | os.PathLike, container: InputContainer, stream: VideoStream
) -> Iterator[Packet]:
    """Yields the stream's packets, undecoded.

    Raises:
        ClipError: one is cut off.
    """
    count = 0
    try:
        for packet in _demuxed(container, stream):
            if packet.size == 0:
                continue
            count += 1
            if packet.is_corrupt:
                raise ClipError(path, "truncated", f"packet {count} is cut off")
            yield packet
    except av.error.FFmpegError as error:
        raise ClipError(path, "truncated", f"after packet {count}: {_what(error)}") from None


def frames(
    path: str | os.PathLike, container: InputContainer, stream: VideoStream
) -> Iterator[VideoFrame]:
    """Yields the frames that are shown, in the order of showing.

    A file that was cut without encoding may begin between keyframes; what cannot be decoded before
    the first one is passed over, as players do.

    Raises:
        ClipError: a frame does not decode, or is larger than any video's.
    """
    count, begun = 0, False
    try:
        for packet in _demuxed(container, stream):
            begun = begun or packet.is_keyframe
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                if begun:
                    raise
                continue
            for frame in decoded:
                if frame.is_corrupt and not begun:
                    continue
                begun = True
                if frame.is_corrupt:
                    raise ClipError(path, "damaged", f"frame {count} decodes with errors")
                if frame.width * frame.height > MOST_PIXELS:
                    raise ClipError(
                        path, "damaged", f"frame {count} is {frame.width} wide, it says"
                    )
                yield frame
                count += 1
    except av.error.FFmpegError as error:
        raise ClipError(path, "damaged", f"after frame {count}: {_what(error)}") from None


def pixel_aspect(stream: VideoStream) -> float:
    """Returns width / height of a pixel."""
    stated = float(stream.sample_aspect_ratio or 1.0)
    return stated if stated > 0 else 1.0
