"""The error of a clip that cannot be used, and the reasons that it gives."""

import os

REASONS = {
    "missing": "no such file",
    "unreadable": "the operating system refuses to read it",
    "empty": "zero bytes",
    "not_a_video": "no known container",
    "no_frames": "no video stream, or no frame in it",
    "unknown_codec": "FFmpeg has no decoder for it",
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
