"""Folders of data whose lists can be read and whose videos are empty files: enough for checks."""

import json
from pathlib import Path

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.datasets.prompts import load_prompts

PROMPTS = PROJECT_ROOT / "data" / "prompts" / "something_something_v2.csv"


def videos_with_captions(root: Path, count: int = 20) -> Path:
    """Writes what `data.name=video_folder` reads."""
    (root / "videos").mkdir(parents=True)
    rows = [f"{i}.mp4,a cat number {i}" for i in range(count)]
    for i in range(count):
        (root / "videos" / f"{i}.mp4").touch()
    (root / "captions.csv").write_text("\n".join(["file,caption", *rows]))
    return root


def something_something(root: Path) -> Path:
    """Writes what `data.name=something_something_v2` reads, a label for every prompt."""
    (root / "labels").mkdir(parents=True)
    (root / "videos").mkdir()
    (root / "videos" / "1.webm").touch()
    labels = [
        {"id": str(i), "label": prompt.text, "template": "Doing [something]"}
        for i, prompt in enumerate(load_prompts(PROMPTS))
    ]
    for split in ("train", "validation"):
        (root / "labels" / f"{split}.json").write_text(json.dumps(labels))
    return root


def paths_for(name: str, folder: Path) -> list[str]:
    """Returns the overrides that give a data set one of these folders, made in `folder`."""
    make = {"video_folder": videos_with_captions, "something_something_v2": something_something}
    if name not in make:
        return []
    root = folder / name
    return [f"data.path={root if root.exists() else make[name](root)}"]
