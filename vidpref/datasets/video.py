"""Video files into clips of a fixed shape: probing, decoding, and the errors of broken files."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vidpref.typing import Array, UInt8

# First bytes by which a file that cannot be opened still shows that it was a video once.
_SIGNATURES = ((0, b"\x1a\x45\xdf\xa3"), (4, b"ftyp"), (0, b"RIFF"), (0, b"OggS"))

REASONS = {
    "missing": "no such file",
    "unreadable": "the operating system refuses to read it",
    "empty": "zero bytes",
    "not_a_video": "no known container",
    "no_frames": "no video stream, or no frame in it",
    "truncated": "ends before its stated end",
    "damaged": "a frame does not decode",
    "too_short": "fewer frames, or less time, than asked for",
}


class ClipError(ValueError):
    """A clip cannot be used.

    Attributes:
        path: the file.
        reason: a key of `REASONS`.
        detail: what exactly.
    """

    def __init__(self, path: str | os.PathLike, reason: str, detail: str = ""):
        self.path, self.reason = os.fspath(path), reason
        self.detail = detail or REASONS[reason]
        super().__init__(f"{self.path}: {reason}: {self.detail}")

    def __reduce__(self):
        return type(self), (self.path, self.reason, self.detail)


def decode_clip(
    path: str | os.PathLike,
    *,
    frames: int,
    height: int,
    width: int,
    fps: float | int | None = None,
    short: Literal["error", "hold"] = "error",
) -> UInt8[Array, "t h w 3"]:
    """Samples a clip of a fixed shape from a video file.

    Each sampling time takes the frame nearest to it. The file's rotation and pixel aspect are
    honoured; frames are scaled by area averaging to cover the shape, and what is over is cut off.

    Args:
        path: video file.
        frames: number of frames, `t`.
        height: height in pixels, `h`.
        width: width in pixels, `w`.
        fps: rate of the sampling times, from the first frame on; None spreads them evenly from the
            first to the last frame.
        short: "hold" repeats frames where the video is too short.

    Raises:
        ClipError: for each of `REASONS`.
    """
    if min(frames, height, width) < 1 or (fps is not None and fps <= 0):
        raise ValueError(f"cannot decode {frames} frames of {height}x{width} at {fps} fps")
    with _opened(path) as (container, stream):
        timing = _timing(path, container, stream)
        times = _sampling_times(path, timing, frames, fps, short)
        fit = _Fit(stream, height, width)
        chosen: list[np.ndarray] = []
        before: tuple[float, VideoFrame] | None = None
        count = 0
        for frame in _decoded(path, container, stream):
            now = timing.time(frame, count)
            count += 1
            held = None
            while len(chosen) < frames and times[len(chosen)] <= now:
                earlier = before and times[len(chosen)] - before[0] < now - times[len(chosen)]
                if earlier:
                    chosen.append(fit(before[1]))
                else:
                    # one frame may serve several times
                    held = fit(frame) if held is None else held
                    chosen.append(held)
            before = (now, frame)
        if before is None:
            raise ClipError(path, "no_frames")
        if count < frames and fps is None and short == "error":
            raise ClipError(path, "too_short", f"{count} frames, {frames} are needed")
        chosen += [fit(before[1])] * (frames - len(chosen))
    return np.stack(chosen)


def shown_ratio(path: str | os.PathLike) -> float:
    """Returns width / height of a video as it is shown, turned upright and with its pixels' aspect.

    Raises:
        ClipError: its first frame cannot be read.
    """
    with _opened(path) as (container, stream):
        frame = next(_decoded(path, container, stream), None)
        if frame is None:
            raise ClipError(path, "no_frames")
        ratio = frame.width * _pixel_aspect(stream) / frame.height
        return 1 / ratio if round(frame.rotation / 90) % 2 else ratio


def fit_clip(
    clip: UInt8[Array, "t h w 3"], height: int, width: int
) -> UInt8[Array, "t {height} {width} 3"]:
    """Scales a clip by area averaging, keeping the aspect ratio and cutting what is over."""
    frames = [VideoFrame.from_ndarray(np.ascontiguousarray(f), format="rgb24") for f in clip]
    scaler = VideoReformatter()
    return np.stack([_cover(scaler, frame, height, width, 1.0) for frame in frames])


@dataclasses.dataclass(frozen=True)
class _Timing:
    """When the frames of a stream are shown, in seconds."""

    first: float
    last: float
    frames: int
    rate: float
    stamped: bool  # packets carry time stamps

    def time(self, frame: VideoFrame, number: int) -> float:
        if self.stamped and frame.time is not None:
            return float(frame.time)
        return number / self.rate


class _opened:
    """Opens a file and its first video stream; FFmpeg's errors become `ClipError`."""

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)

    def __enter__(self) -> tuple[av.container.InputContainer, VideoStream]:
        path = self._path
        try:
            with open(path, "rb") as file:
                head = file.read(16)
        except FileNotFoundError:
            raise ClipError(path, "missing") from None
        except OSError as error:
            raise ClipError(path, "unreadable", str(error)) from None
        if not head:
            raise ClipError(path, "empty")
        once = any(head[at : at + len(sign)] == sign for at, sign in _SIGNATURES)
        try:
            self._container = av.open(os.fspath(path))
        except (av.error.FFmpegError, UnicodeDecodeError) as error:
            detail = "starts like a video but its index cannot be read" if once else str(error)
            raise ClipError(path, "truncated" if once else "not_a_video", detail) from None
        streams = self._container.streams.video
        if not streams or not streams[0].width or self._container.format.name in ("tty", "ansi"):
            self._container.close()
            text = self._container.format.name in ("tty", "ansi")  # FFmpeg draws text files
            reason = "not_a_video" if text or not once else "no_frames"
            raise ClipError(path, reason, "no video stream")
        return self._container, streams[0]

    def __exit__(self, *_) -> None:
        self._container.close()


def _timing(
    path: str | os.PathLike, container: av.container.InputContainer, stream: VideoStream
) -> _Timing:
    """Reads every packet's time stamp, without decoding, and rewinds."""
    stamps, packets = [], 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            packets += 1
            if packet.is_corrupt:
                raise ClipError(path, "truncated", f"packet {packets} is cut off")
            if packet.pts is not None and not packet.is_discard:
                stamps.append(float(packet.pts * packet.time_base))
        container.seek(0)
    except av.error.FFmpegError as error:
        raise ClipError(path, "truncated", f"after packet {packets}: {error}") from None
    if not packets:
        raise ClipError(path, "no_frames")
    rate = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
    stamped = len(stamps) == packets or len(stamps) > packets // 2
    first, last = (min(stamps), max(stamps)) if stamped else (0.0, (packets - 1) / rate)
    if stream.frames and packets < stream.frames:
        raise ClipError(path, "truncated", f"{packets} of {stream.frames} frames are there")
    stated = _stated_seconds(container, stream)
    end = last + 1.0 / rate
    if stated is not None and end + max(2.0 / rate, 0.05 * stated) < stated:
        raise ClipError(path, "truncated", f"ends at {end:.2f} s of {stated:.2f} s")
    return _Timing(first, last, len(stamps) if stamped else packets, rate, stamped)


def _stated_seconds(container: av.container.InputContainer, stream: VideoStream) -> float | None:
    """The end of the video stream by the file's header, where that is about video alone."""
    if stream.duration is not None:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    tag = stream.metadata.get("DURATION")  # Matroska: "00:00:02.500000000"
    if tag and tag.count(":") == 2:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _sampling_times(
    path: str | os.PathLike,
    timing: _Timing,
    frames: int,
    fps: float | int | None,
    short: str,
) -> np.ndarray:
    if fps is None:
        return np.linspace(timing.first, timing.last, frames)
    half = 0.5 / timing.rate  # the nearest frame may lie half a frame before its time
    spare = timing.last + half - timing.first - (frames - 1) / fps
    if spare < -1e-6 and short == "error":
        have = timing.last - timing.first + 1.0 / timing.rate
        raise ClipError(
            path,
            "too_short",
            f"{have:.2f} s; {frames} frames at {fps:g} fps are {frames / fps:.2f} s",
        )
    return timing.first + np.arange(frames) / fps


def _decoded(
    path: str | os.PathLike, container: av.container.InputContainer, stream: VideoStream
) -> Iterator[VideoFrame]:
    count = 0
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ClipError(path, "damaged", f"frame {count} decodes with errors")
            yield frame
            count += 1
    except av.error.FFmpegError as error:
        raise ClipError(path, "damaged", f"after frame {count}: {error}") from None


class _Fit:
    """Turns decoded frames into upright rgb arrays of one size."""

    def __init__(self, stream: VideoStream, height: int, width: int):
        self._height, self._width = height, width
        self._aspect = _pixel_aspect(stream)
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        turns = round(frame.rotation / 90) % 4  # quarter turns, counterclockwise
        height, width = (self._width, self._height) if turns % 2 else (self._height, self._width)
        image = _cover(self._scaler, frame, height, width, self._aspect)
        return np.ascontiguousarray(np.rot90(image, turns))


def _pixel_aspect(stream: VideoStream) -> float:
    return float(stream.sample_aspect_ratio or 1.0) or 1.0


def _cover(
    scaler: VideoReformatter, frame: VideoFrame, height: int, width: int, aspect: float
) -> np.ndarray:
    """Scales to the smallest size that covers height x width, and cuts out the middle."""
    shown = frame.width * aspect
    scale = max(height / frame.height, width / shown)
    h = max(height, round(frame.height * scale))
    w = max(width, round(shown * scale))
    image = _scaled(scaler, frame, h, w)
    top, left = (h - height) // 2, (w - width) // 2
    return image[top : top + height, left : left + width]


def _scaled(scaler: VideoReformatter, frame: VideoFrame, height: int, width: int) -> np.ndarray:
    smaller = height < frame.height or width < frame.width
    image = scaler.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        interpolation="AREA" if smaller else "BICUBIC",
    )
    return image.to_ndarray()
