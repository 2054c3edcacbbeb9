"""What PyAV says of a video file, to check the files that vidpref writes and reads."""

import dataclasses
from pathlib import Path

import av


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Size in pixels, frame rate, number of decoded frames, seconds and codec of a video file."""

    width: int
    height: int
    fps: float
    frames: int
    seconds: float
    codec: str


def probe(path: str | Path) -> VideoInfo:
    """Decodes a whole file and counts its frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        fps = float(stream.average_rate)
        return VideoInfo(
            width=stream.width,
            height=stream.height,
            fps=fps,
            frames=len(times),
            seconds=times[-1] - times[0] + 1 / fps,
            codec=stream.codec_context.name,
        )
