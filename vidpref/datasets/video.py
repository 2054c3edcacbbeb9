"""Video files into clips of a fixed shape."""

import os
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.repeated_frames import RepeatedFrames
from vidpref.datasets.video_files import MOST_PIXELS, opened, pixel_aspect
from vidpref.datasets.video_files import frames as video_frames
from vidpref.datasets.video_timing import Timing, read_timing
from vidpref.typing import Array, UInt8


def decode_clip(
    path: str | os.PathLike,
    *,
    frames: int,
    height: int,
    width: int,
    fps: float | int | None = None,
    short: Literal["error", "hold"] = "error",
    repeated: RepeatedFrames | None = None,
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
        repeated: is told how many frames a second the video has, where `fps` is given.

    Raises:
        ClipError: for each of `REASONS`.
    """
    if min(frames, height, width) < 1 or (fps is not None and fps <= 0):
        raise ValueError(f"cannot decode {frames} frames of {height}x{width} at {fps} fps")
    stated = read_timing(path)
    times = _sampling_times(stated, frames, fps)
    clip, shown = _nearest_frames(path, stated, times, height, width)
    timing = stated.of_frames(shown)
    if short == "error":
        _check_length(path, timing, frames, fps)
    true_times = _sampling_times(timing, frames, fps)
    if timing.stamped != stated.stamped or np.abs(true_times - times).max() > 1e-6:
        clip, _ = _nearest_frames(path, timing, true_times, height, width)
    if repeated is not None and fps is not None:
        repeated.note(path, timing.shown_rate)
    return clip


def decode_frames(
    path: str | os.PathLike, most: int = 0
) -> tuple[UInt8[np.ndarray, "t h w 3"], Timing]:
    """Returns the frames of a video at its own size, upright and with square pixels.

    Args:
        path: video file.
        most: number of frames at most, evenly spaced from the first to the last; 0 returns all.

    Returns:
        The frames, and when all frames of the file are shown.

    Raises:
        ClipError: for each of `REASONS` but too_short.
    """
    stated = read_timing(path)
    clip, shown = _chosen_frames(path, stated, stated.frames, most)
    if len(shown) != stated.frames and most:  # packets tell the number of frames only nearly
        clip, shown = _chosen_frames(path, stated, len(shown), most)
    return clip, stated.of_frames(shown)


def shown_ratio(path: str | os.PathLike) -> float:
    """Returns width / height of a video as it is shown, turned upright and with its pixels' aspect.

    Raises:
        ClipError: its first frame cannot be read.
    """
    with opened(path) as (container, stream):
        frame = next(iter(video_frames(path, container, stream)), None)
        if frame is None:
            raise ClipError(path, "no_frames")
        ratio = frame.width * pixel_aspect(stream) / frame.height
        return 1 / ratio if round(frame.rotation / 90) % 2 else ratio


def fit_clip(
    clip: UInt8[Array, "t h w 3"], height: int, width: int
) -> UInt8[Array, "t {height} {width} 3"]:
    """Scales a clip by area averaging, keeping the aspect ratio and cutting what is over."""
    frames = [VideoFrame.from_ndarray(np.ascontiguousarray(f), format="rgb24") for f in clip]
    scaler = VideoReformatter()
    return np.stack([_cover(scaler, frame, height, width, 1.0) for frame in frames])


def _sampling_times(timing: Timing, frames: int, fps: float | int | None) -> np.ndarray:
    if fps is None:
        return np.linspace(timing.first, timing.last, frames)
    return timing.first + np.arange(frames) / fps


def _check_length(
    path: str | os.PathLike, timing: Timing, frames: int, fps: float | int | None
) -> None:
    if fps is None:
        if timing.frames < frames:
            detail = f"{timing.frames} frames, {frames} are needed"
            raise ClipError(path, "too_short", detail)
        return
    # The nearest frame may lie half a frame before its time. The header's rate is a mean, and low
    # where the last frame is held for long.
    limit = max(
        timing.last + 0.5 / timing.rate,
        timing.end - 0.5 / max(timing.rate, timing.shown_rate),
    )
    spare = limit - timing.first - (frames - 1) / fps
    if spare < -1e-6:
        have = timing.end - timing.first
        raise ClipError(
            path,
            "too_short",
            f"{have:.2f} s; {frames} frames at {fps:g} fps are {frames / fps:.2f} s",
        )


def _nearest_frames(
    path: str | os.PathLike, timing: Timing, times: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, list[float]]:
    """Returns the frames nearest to the times, and when every frame of the file is shown."""
    with opened(path) as (container, stream):
        fit = _Fit(stream, height, width)
        chosen: list[np.ndarray] = []
        shown: list[float] = []
        before: VideoFrame | None = None
        for frame in video_frames(path, container, stream):
            now = timing.time(frame, len(shown))
            held = None
            while len(chosen) < len(times) and times[len(chosen)] <= now:
                time = times[len(chosen)]
                if before is not None and time - shown[-1] < now - time:
                    chosen.append(fit(before))
                else:
                    # one frame may serve several times
                    held = fit(frame) if held is None else held
                    chosen.append(held)
            before = frame
            shown.append(now)
        if before is None:
            raise ClipError(path, "no_frames")
        chosen += [fit(before)] * (len(times) - len(chosen))
    return np.stack(chosen), shown


def _chosen_frames(
    path: str | os.PathLike, timing: Timing, count: int, most: int
) -> tuple[np.ndarray, list[float]]:
    """Returns frames of a video of so many at its own size, and when each of all is shown."""
    few = 0 < most < count
    wanted = set(np.round(np.linspace(0, count - 1, most)).astype(int)) if few else None
    with opened(path) as (container, stream):
        fit: _Fit | None = None
        chosen: list[np.ndarray] = []
        shown: list[float] = []
        for number, frame in enumerate(video_frames(path, container, stream)):
            if fit is None:
                width = round(frame.width * pixel_aspect(stream))
                size = (width, frame.height) if frame.rotation % 180 else (frame.height, width)
                fit = _Fit(stream, *size)
            if wanted is None or number in wanted:
                chosen.append(fit(frame))
            shown.append(timing.time(frame, number))
    if not chosen:
        raise ClipError(path, "no_frames")
    return np.stack(chosen), shown


class _Fit:
    """Turns decoded frames into upright rgb arrays of one size."""

    def __init__(self, stream: VideoStream, height: int, width: int):
        self._height, self._width = height, width
        self._aspect = pixel_aspect(stream)
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        turns = round(frame.rotation / 90) % 4  # quarter turns, counterclockwise
        height, width = (self._width, self._height) if turns % 2 else (self._height, self._width)
        image = _cover(self._scaler, frame, height, width, self._aspect)
        return np.ascontiguousarray(np.rot90(image, turns))


def _cover(
    scaler: VideoReformatter, frame: VideoFrame, height: int, width: int, aspect: float
) -> np.ndarray:
    """Scales to the smallest size that covers height x width, and cuts out the middle."""
    shown = frame.width * aspect
    scale = max(height / frame.height, width / shown)
    h = max(height, round(frame.height * scale))
    w = max(width, round(shown * scale))
    if h * w > MOST_PIXELS:
        raise MemoryError(f"{frame.width}x{frame.height} would have to be scaled to {w}x{h}")
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
