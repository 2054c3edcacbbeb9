"""Clips without scores: video files, and a page that shows those of one prompt side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidpref.datasets.video_writing import encode_clip
from vidpref.evaluation.figures import training_curves
from vidpref.evaluation.pages import fill
from vidpref.files import write_text
from vidpref.typing import UInt8


@dataclasses.dataclass(frozen=True)
class Sample:
    """Clips of several policies from the same prompt and noise.

    Attributes:
        name: name of the prompt and the noise, for file names.
        prompt: the text.
        split: split of the prompt.
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
        path: path of the page.
        samples: clips that it shows, in order.
        title: title of the page.
        command: command that made the clips.
        fps: frames a second at which the clips play.
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
    values = {
        "title": title,
        "command": command,
        "rows": rows,
        "figures": [training_curves(stage, records) for stage, records in curves.items()],
    }
    write_text(path, fill("samples.html", values))
