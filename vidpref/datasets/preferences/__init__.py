"""Public preference data sets, each layout read into one form."""

import os
from pathlib import Path

from vidpref.datasets.preferences.frames import OVERALL, VERDICTS, Preferences
from vidpref.datasets.preferences.json_lines import read_json_lines
from vidpref.datasets.preferences.realdpo import read_realdpo
from vidpref.datasets.preferences.videoalign import read_videoalign
from vidpref.datasets.preferences.videodpo import read_videodpo

__all__ = ["LAYOUTS", "OVERALL", "VERDICTS", "Preferences", "read_preferences"]

# name -> (reader, what `path` is)
LAYOUTS = {
    "videoalign": (read_videoalign, "a .csv file"),
    "json_lines": (read_json_lines, "a .jsonl or .ndjson file, or a .json list"),
    "videodpo": (read_videodpo, "a folder with pair.json and metadata.json"),
    "realdpo": (read_realdpo, "a folder with video.txt, prompt.txt and negative_samples"),
}
_BY_SUFFIX = {
    ".csv": "videoalign",
    ".json": "json_lines",  # unless it lists pairs as VideoDPO does
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
}
_HEAD = 2**14  # bytes of a .json file: more than its first entry has


def read_preferences(path: str | os.PathLike, layout: str = "auto") -> Preferences:
    """Reads a preference data set; clips are checked to exist, not decoded.

    Args:
        path: file or folder, whatever the layout has.
        layout: a key of `LAYOUTS`, or "auto" to tell it by what `path` is.

    Raises:
        ValueError: nothing at `path`, a layout that is unknown or cannot be told, and the errors of
            the layout's reader.
    """
    path = Path(path)
    if layout != "auto" and layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r} is unknown; known: auto, {', '.join(LAYOUTS)}")
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    reader, _ = LAYOUTS[_told(path) if layout == "auto" else layout]
    return reader(path)


def _told(path: Path) -> str:
    if path.is_file() and path.suffix.lower() == ".json" and b'"video1"' in _head(path):
        return "videodpo"
    if path.is_file() and path.suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix.lower()]
    if (path / "pair.json").is_file():
        return "videodpo"
    if (path / "video.txt").is_file():
        return "realdpo"
    known = "; ".join(f"{name}: {what}" for name, (_, what) in LAYOUTS.items())
    raise ValueError(f"{path}: cannot tell its layout. Known are {known}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
