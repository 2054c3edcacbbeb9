"""Clips without scores: video files, and a page that shows those of one prompt side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vidpref.datasets.video_writing import encode_clip
from vidpref.evaluation.figures import training_curves
from vidpref.files import write_text
from vidpref.typing import UInt8

_TEMPLATES = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Clips of several policies from the same prompt and noise.

    Attributes:
        name: of the prompt and the noise, for file names.
        prompt: the text.
        split: of the prompt.
        clips: policy -> frames.
    """

    name: str
    prompt: str
    split: str
    clips: Mapping[str, UInt8[np.ndarray, "_t _h _w 3"]]


def write_gallery(
    path: Path,
    samples: Sequence[Sample],
    *,
    title: str,
    command: str,
    fps: float | int,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Writes `path`, an HTML page, and its videos into the folder `samples` beside it.

    Args:
        path: of the page.
        samples: what it shows, in order.
        title: of the page.
        command: that made the clips.
        fps: at which they play.
        curves: stage -> metric records with "step"; drawn below the clips.
    """
    rows = []
    for sample in samples:
        files = {}
        for policy, clip in sample.clips.items():
            file = Path("samples") / policy / f"{sample.name}.mp4"
            (path.parent / file).parent.mkdir(parents=True, exist_ok=True)
            encode_clip(path.parent / file, clip, fps)
            files[policy] = file.as_posix()
        rows.append({"prompt": sample.prompt, "split": sample.split, "files": files})
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    css = Markup((_TEMPLATES / "report.css").read_text())  # our own file
    page = environment.get_template("samples.html").render(
        title=title,
        command=command,
        css=css,
        rows=rows,
        figures=[training_curves(stage, records) for stage, records in curves.items()],
    )
    write_text(path, page)
