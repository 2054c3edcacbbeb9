"""Videos with fewer frames a second than are taken of them, whose frames are therefore repeated."""

import os

from absl import logging

_TOLERANCE = 1.01  # 24 of 23.976 a second repeat one frame in 40 s


class RepeatedFrames:
    """Watches the frame rates of a data set's videos, for one warning at its end.

    A path counts once. Threads may share it.

    Args:
        fps: frames a second that are taken; None or 0 where they are spread over the video.
    """

    def __init__(self, fps: float | int | None):
        self._fps = fps or 0.0
        self._rates: dict[str, float] = {}

    def note(self, path: str | os.PathLike, rate: float | int) -> None:
        """Notes that a video has `rate` frames a second."""
        self._rates[os.fspath(path)] = float(rate)

    @property
    def slower(self) -> dict[str, float]:
        """Frames a second, by path, of the videos that have too few."""
        return {path: rate for path, rate in self._rates.items() if self._fps > _TOLERANCE * rate}

    def warn(self) -> None:
        """Logs how many videos repeat frames, and names one, if there are any."""
        slower = self.slower
        if not slower:
            return
        path, rate = min(slower.items(), key=lambda item: item[1])
        logging.warning(
            "data.fps=%g is above the frame rate of %d of %d videos, such as %s with %.4g: their "
            "frames are repeated. Lower data.fps, or leave these videos out.",
            self._fps, len(slower), len(self._rates), path, rate,
        )  # fmt: skip
