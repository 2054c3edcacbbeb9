"""When the frames of a video are shown, and whether they reach the end that the file states."""

import dataclasses
import os
import re
from collections.abc import Sequence

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.video_files import opened, packets
from vidpref.datasets.video_wholeness import missing_bytes

_DURATION = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # tag of Matroska: 00:00:02.500000000


@dataclasses.dataclass(frozen=True)
class Timing:
    """When the frames of a stream are shown.

    Attributes:
        first: time of the first frame, in seconds.
        last: time of the last frame.
        end: until when the last frame is shown.
        rate: frames a second by the file's header.
        frames: number of frames.
        stamped: whether frames carry times that increase; else they follow each other at `rate`.
    """

    first: float
    last: float
    end: float
    rate: float
    frames: int
    stamped: bool

    def time(self, frame: VideoFrame, number: int) -> float:
        """Returns when a frame is shown, in seconds."""
        if self.stamped and frame.time is not None:
            return float(frame.time)
        return number / self.rate

    def of_frames(self, times: Sequence[float]) -> "Timing":
        """Returns the timing of the frames that were really shown, at these times.

        Packets do not tell them exactly: some frames only serve others, those in front of the first
        keyframe cannot be decoded, and AVI has no times of showing, only an order of packets.
        """
        rate, stamped = self.rate, self.stamped
        if stamped and np.any(np.diff(times) < 0):
            steps = np.diff(np.unique(np.round(times, 6)))
            rate = float(1.0 / np.median(steps)) if steps.size else rate
            stamped = False
        first, last = (times[0], times[-1]) if stamped else (0.0, (len(times) - 1) / rate)
        end = self.end if abs(last - self.last) < 1e-6 else last + 1.0 / rate
        return Timing(first, last, end, rate, len(times), stamped)

    @property
    def shown_rate(self) -> float:
        """Frames a second from the first to the last; that of the header for a single one."""
        span = self.last - self.first
        return (self.frames - 1) / span if span > 0 else self.rate


def read_timing(path: str | os.PathLike) -> Timing:
    """Reads every packet's time stamp, without decoding.

    Raises:
        ClipError: no video, no packet, or the file ends before the end that it states.
    """
    with opened(path) as (container, stream):
        missing = missing_bytes(path, container, stream)
        if missing:
            raise ClipError(path, "truncated", f"{missing} bytes are missing at its end")
        stamps, ends, count, hidden = [], [], 0, 0
        for packet in packets(path, container, stream):
            count += 1
            if packet.is_discard:
                hidden += 1  # before the cut: decoded for others' sake, never shown
            elif packet.pts is not None:
                stamps.append(float(packet.pts * packet.time_base))
                ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
        stated = _stated_end(container, stream)
        in_mp4 = container.format.name.startswith("mov")
        rate = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
    shown = count - hidden
    if not shown:
        raise ClipError(path, "no_frames")
    stamped = bool(stamps) and len(stamps) >= shown / 2
    first, last = (min(stamps), max(stamps)) if stamped else (0.0, (shown - 1) / rate)
    end = max([last + 1.0 / rate, *ends])
    if stated is not None:
        if missing is None and end + max(2.0 / rate, 0.05 * stated) < stated:
            raise ClipError(path, "truncated", f"ends at {end:.2f} s of {stated:.2f} s")
        if not in_mp4:  # where packets know for how long they are shown
            end = max(end, stated)
    return Timing(first, last, end, rate, shown, stamped)


def _stated_end(container: InputContainer, stream: VideoStream) -> float | None:
    """The end of the video stream by the file's header, where that is about video alone."""
    whole = container.duration / av.time_base if container.duration is not None else None
    if stream.duration is not None:
        # in MP4 an empty edit in front may count twice
        begin = 0 if container.format.name.startswith("mov") else stream.start_time or 0
        return float((stream.duration + begin) * stream.time_base)
    tag = _DURATION.fullmatch(stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds = tag.groups()
        tagged = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        # of the file that it was cut from, where that was longer
        return tagged if whole is None else min(tagged, whole)
    return whole if len(container.streams) == 1 else None
