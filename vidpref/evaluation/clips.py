"""Clips as media of a page: WebM videos inside it, video files beside it, PNG contact sheets."""

import base64
import io
import os
import urllib.parse
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from vidpref.datasets.pictures import encode_png, enlarge
from vidpref.datasets.video_writing import encode_clip
from vidpref.typing import Array, UInt8

MIN_SIDE = 128
EMBEDDED = 2**21  # pixels of all frames of a clip up to which a page holds it
_GAP = 2  # pixels between the frames of a contact sheet, before enlargement


class Videos:
    """Gives clips to pages: small ones inside the page, others as video files in a folder.

    Args:
        folder: gets the files, `NAME.mp4`; None keeps every clip inside the page.
        fps: frames a second.
        embed: pixels of all frames of a clip up to which it is small.
    """

    def __init__(self, folder: Path | None = None, *, fps: int | float = 6, embed: int = EMBEDDED):
        self._folder, self._fps, self._embed = folder, fps, embed
        self._known: dict[int, str | Path] = {}

    def address(self, clip: UInt8[Array, "t h w 3"], name: str, page: Path) -> str:
        """Returns what a `<video>` of a page has as its `src`; the clip is encoded once.

        Args:
            clip: frames, RGB; must live as long as this does.
            name: name of its file, with slashes for folders.
            page: path of the page.
        """
        if id(clip) not in self._known:
            self._known[id(clip)] = self._encoded(clip, name)
        found = self._known[id(clip)]
        if isinstance(found, str):
            return found
        return urllib.parse.quote(Path(os.path.relpath(found, page.parent)).as_posix())

    @property
    def files(self) -> list[Path]:
        """The video files that were written so far."""
        return [found for found in self._known.values() if isinstance(found, Path)]

    def _encoded(self, clip: UInt8[Array, "t h w 3"], name: str) -> str | Path:
        if self._folder is None or clip[..., 0].size <= self._embed:
            return webm_data_uri(clip, fps=self._fps)
        path = self._folder / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_clip(path, clip, self._fps)
        return path


def webm_data_uri(
    clip: UInt8[Array, "t h w 3"], *, fps: int | float = 6, min_side: int = MIN_SIDE
) -> str:
    """Returns a clip as a `data:` address of a WebM video (VP9, yuv420p).

    VP9 in WebM plays in every current browser without a licence; enlarging by whole factors first
    keeps the edges of small clips sharp in spite of the halved chroma.

    Args:
        clip: frames, RGB.
        fps: frames a second.
        min_side: shorter side in pixels that the video has at least.

    Raises:
        ValueError: no frames, or fps is not positive.
    """
    encoded = base64.b64encode(webm(clip, fps=fps, min_side=min_side)).decode()
    return f"data:video/webm;base64,{encoded}"


def webm(clip: UInt8[Array, "t h w 3"], *, fps: int | float = 6, min_side: int = MIN_SIDE) -> bytes:
    """Returns a clip as the bytes of a WebM video; see `webm_data_uri`."""
    if not len(clip):
        raise ValueError("a clip without frames cannot be encoded")
    if fps <= 0:
        raise ValueError(f"fps must be positive, not {fps}")
    frames = enlarge(clip, min_side=min_side)
    file = io.BytesIO()
    # Constant quality, one thread: small videos, and the same bytes in every run.
    options = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "threads": "1"}
    with av.open(file, "w", format="webm", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "libvpx-vp9", rate=Fraction(fps).limit_denominator(1000), options=options
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Without a tag players guess the matrix from the size, and colours shift.
        stream.codec_context.colorspace = Colorspace.ITU601
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def contact_sheet(clip: UInt8[Array, "t h w 3"], *, columns: int = 8, min_side: int = 64) -> bytes:
    """Returns the frames of a clip side by side as the bytes of a PNG image.

    Args:
        clip: frames, RGB.
        columns: frames in a row.
        min_side: shorter side in pixels that each frame has at least.

    Raises:
        ValueError: no frames, or columns < 1.
    """
    if not len(clip) or columns < 1:
        raise ValueError(f"a sheet of {len(clip)} frames in {columns} columns has no content")
    frames = enlarge(clip, min_side=min_side)
    t, h, w, c = frames.shape
    columns = min(columns, t)
    rows = -(-t // columns)
    sheet = np.full((rows * (h + _GAP) - _GAP, columns * (w + _GAP) - _GAP, c), 255, np.uint8)
    for i, frame in enumerate(frames):
        y, x = i // columns * (h + _GAP), i % columns * (w + _GAP)
        sheet[y : y + h, x : x + w] = frame
    return encode_png(sheet)
