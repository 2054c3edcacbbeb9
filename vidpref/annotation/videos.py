"""The video files of a task: what they are, what the page calls them, and parts of them."""

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vidpref.annotation.task import Item, clip_path
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.video_files import opened

# What Chromium, Firefox and Safari play without help of the operating system.
_PLAYED = {
    "h264": (".mp4", ".m4v", ".mov", ".mkv"),
    "vp8": (".webm", ".mkv"),
    "vp9": (".webm", ".mp4", ".mkv"),
    "av1": (".webm", ".mp4", ".mkv"),
}
_TYPES = {".webm": "video/webm", ".mkv": "video/x-matroska", ".avi": "video/x-msvideo"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_FPS = 8.0  # for stepping through a file that states no rate


@dataclasses.dataclass(frozen=True)
class Video:
    """A video file.

    Attributes:
        path: where it lies.
        token: what the page calls it, which tells nothing of its name.
        codec: FFmpeg's name of its codec.
        fps: frames a second that it states.
        width: of its frames.
    """

    path: Path
    token: str
    codec: str
    fps: float
    width: int

    @property
    def type(self) -> str:
        """Its media type."""
        return _TYPES.get(self.path.suffix.lower(), "video/mp4")

    @property
    def plays(self) -> bool:
        """Whether browsers play it."""
        return self.path.suffix.lower() in _PLAYED.get(self.codec, ())

    @property
    def advice(self) -> str:
        """What it is, and what to do where a browser does not play it."""
        return (
            f"{self.codec} in {self.path.suffix.lower()}: browsers play H.264 in .mp4, and VP8, "
            "VP9 or AV1 in .webm. Convert it: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p FILE.mp4"
        )


class RangeError(ValueError):
    """Bytes were asked for that the file does not have."""


def look_at(
    items: Sequence[Item], folder: Path, skipped: BadClips
) -> tuple[tuple[Item, ...], dict[str, Video]]:
    """Returns the items whose clips are all videos, and the videos by their names in the records.

    Args:
        items: what is to be asked.
        folder: of the records.
        skipped: is told of clips that are no videos; items with one are left out.

    Raises:
        ValueError: no item is left.
    """
    names = dict.fromkeys(name for item in items for name in item.clips)
    found: dict[str, Video] = {}
    for name in names:
        try:
            found[name] = _look(clip_path(name, folder))
        except ClipError as error:
            skipped.add(error)
    kept = tuple(item for item in items if all(name in found for name in item.clips))
    if not kept:
        raise ValueError(f"no clip can be shown:\n{skipped.table()}")
    return kept, found


def not_played(videos: Sequence[Video]) -> str:
    """Returns a warning about files that browsers may not play; "" where there are none."""
    odd = [video for video in videos if not video.plays]
    if not odd:
        return ""
    counts = Counter(f"{video.codec} in {video.path.suffix.lower()}" for video in odd)
    named = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    return (
        f"{len(odd)} of {len(videos)} clips may not play in a browser ({named}), the first "
        f"{odd[0].path}. {odd[0].advice}"
    )


def byte_range(header: str | None, size: int) -> range | None:
    """Returns the bytes that a Range header asks for; None for all of them.

    Raises:
        RangeError: the file has none of these.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None  # no header, another unit, or several ranges: all may be sent instead
    first, last = match.groups()
    if not first:
        found = range(max(0, size - int(last)), size)
    else:
        found = range(int(first), min(int(last) + 1 if last else size, size))
    if not found:
        raise RangeError(f"{header}: the file has {size} bytes")
    return found


def _look(path: Path) -> Video:
    with opened(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
        codec, width = stream.codec_context.name, stream.width
    state = os.stat(path)
    seen = f"{path}/{state.st_size}/{state.st_mtime_ns}".encode()
    token = hashlib.blake2s(seen, digest_size=12).hexdigest()
    return Video(path, token, _FFMPEG.get(codec, codec), float(rate or _FPS), width)


_FFMPEG = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx-vp9": "vp9", "libvpx": "vp8"}
