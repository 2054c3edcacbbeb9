"""Clips to look at without tables: a page of them, a picture of their frames, or video files."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from vidpref.datasets.pictures import encode_png, enlarge
from vidpref.datasets.video_writing import encode_clip
from vidpref.evaluation.clips import Videos
from vidpref.evaluation.pages import fill
from vidpref.evaluation.report import ClipRow, page_filters
from vidpref.evaluation.rounds import title
from vidpref.evaluation.tables import SPLITS
from vidpref.files import whole_file, write_text
from vidpref.typing import UInt8

_FRAMES = 8  # of a clip, in a picture
_SIDES = 64, 160  # pixels of a frame's shorter side in a picture, at least and at most
_GAP, _LINE = 8, 16  # pixels
_PAPER, _INK = (255, 255, 255), (28, 28, 26)
_LETTER = 6  # pixels of a letter of Pillow's own font


def write_gallery(
    path: Path, rows: Sequence[ClipRow], *, heading: str, about: str, fps: int | float
) -> Path | None:
    """Writes a page with clips of one prompt and noise side by side.

    Args:
        path: path of the page.
        rows: what it shows, in order.
        heading: title of the page.
        about: which clips they are, a sentence.
        fps: frames a second.

    Returns:
        The folder of its videos; None where all are small, and inside the page.
    """
    folder = path.with_name(f"{path.stem}-videos")
    videos = Videos(folder, fps=fps)
    values = {"heading": heading, "about": about, "rows": rows, "splits": SPLITS}
    write_text(path, fill("gallery.html", values, page_filters(path, videos)))
    return folder if videos.files else None


def write_sheet(path: Path, rows: Sequence[ClipRow]) -> None:
    """Writes frames of clips as a PNG picture: a line for each clip, with policy and prompt above.

    Args:
        path: path of the picture.
        rows: what it shows, in order.
    """
    strips = [_captioned(row, policy) for row in rows for policy in row.clips]
    width = max(strip.shape[1] for strip in strips) + 2 * _GAP
    height = sum(strip.shape[0] + _GAP for strip in strips) + _GAP
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    top = _GAP
    for strip in strips:
        sheet[top : top + strip.shape[0], _GAP : _GAP + strip.shape[1]] = strip
        top += strip.shape[0] + _GAP
    with whole_file(path) as temporary:
        temporary.write_bytes(encode_png(sheet))


def write_videos(folder: Path, rows: Sequence[ClipRow], *, fps: int | float) -> list[Path]:
    """Writes every clip as `folder/POLICY/NAME.mp4` and returns their paths, in order."""
    paths = []
    for row in rows:
        for policy, clip in row.clips.items():
            paths.append(folder / policy / f"{row.name}.mp4")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            encode_clip(paths[-1], clip, fps)
    return paths


def _captioned(row: ClipRow, policy: str) -> UInt8[np.ndarray, "h w 3"]:
    """Frames from all over a clip, side by side, below a line of words."""
    clip = row.clips[policy]
    chosen = np.linspace(0, len(clip) - 1, min(_FRAMES, len(clip))).round().astype(int)
    frames = [_sized(image) for image in enlarge(clip[chosen], min_side=_SIDES[0])]
    strip = np.concatenate(frames, axis=1)
    verdict = "" if row.accepted is None else " accepted" if row.accepted[policy] else " rejected"
    # Pillow's own font has the letters of Latin-1 alone
    words = f"{title(policy)}{verdict}: {row.prompt}".encode("latin-1", "replace").decode("latin-1")
    lines = _wrapped(words, strip.shape[1] // _LETTER)
    label = PIL.Image.new("RGB", (strip.shape[1], _LINE * len(lines)), _PAPER)
    font = PIL.ImageFont.load_default_imagefont()
    for number, line in enumerate(lines):
        PIL.ImageDraw.Draw(label).text((0, number * _LINE), line, _INK, font)
    return np.concatenate([np.asarray(label), strip])


def _sized(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    height, width = image.shape[:2]
    scale = _SIDES[1] / min(height, width)
    if scale >= 1:
        return image
    size = round(width * scale), round(height * scale)
    return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.LANCZOS))


def _wrapped(words: str, letters: int) -> list[str]:
    return textwrap.wrap(words, max(20, letters), max_lines=2, placeholder=" ...") or [""]
