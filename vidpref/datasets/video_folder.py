"""A plain folder of one's own videos: `videos/` and `captions.csv`."""

import dataclasses
import hashlib
import os
from pathlib import Path

from vidpref.csv_text import read_csv
from vidpref.datasets.prompts import SPLITS

VIDEO_SUFFIXES = frozenset({".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v"})


@dataclasses.dataclass(frozen=True)
class Caption:
    """One row of `captions.csv`: a file under `videos/`, its text, category and split."""

    file: str
    text: str
    category: str
    split: str


def load_captions(root: str | os.PathLike, held_out: float = 0.1) -> list[Caption]:
    """Reads `root/captions.csv` with the columns file, caption and, optionally, split, category.

    Without a split column, `held_out` of the texts become "test" and as many "validation", by a
    hash of the text: equal captions stay together and adding videos moves none. Line breaks in a
    caption become spaces: it is one line for the text cache.

    Raises:
        FileNotFoundError: no `captions.csv` or no `videos/`.
        ValueError: all of `read_csv`; a field is empty, a caption holds the row of another file (a
            quote that is closed too late), a split is unknown, a file named twice or outside
            `videos/`. Names file and line.
    """
    root = Path(root)
    path = root / "captions.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; it lists file,caption[,split,category]")
    if not (root / "videos").is_dir():
        raise FileNotFoundError(f"{root / 'videos'}: no such folder; put the videos there")
    captions: dict[str, Caption] = {}
    _, rows = read_csv(path, ("file", "caption"), ("split", "category"))
    for where, row in rows:
        caption = _caption(row, where, held_out)
        if caption.file in captions:
            raise ValueError(f"{where}: {caption.file} occurs twice")
        captions[caption.file] = caption
    if not captions:
        raise ValueError(f"{path}: no row")
    return list(captions.values())


def unknown_files(root: str | os.PathLike, captions: list[Caption]) -> list[Path]:
    """Returns the video files under `videos/` that no caption names."""
    videos = Path(root) / "videos"
    known = {videos / caption.file for caption in captions}
    return sorted(
        p for p in videos.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p not in known
    )


def _caption(row: dict[str, str], where: str, held_out: float) -> Caption:
    fields = {key: value.strip() for key, value in row.items()}
    for name in ("file", "caption"):
        if not fields[name]:
            raise ValueError(f"{where}: {name} is empty")
        _, *more = fields[name].split("\n")
        if more and (name == "file" or any(s in "".join(more).lower() for s in VIDEO_SUFFIXES)):
            raise ValueError(
                f"{where}: {name} goes on in the next line ({fields[name][:60]!r}); is a quote "
                "not closed there?"
            )
    caption = " ".join(line.strip() for line in fields["caption"].split("\n"))
    name = os.path.normpath(fields["file"])
    if os.path.isabs(name) or Path(name).parts[:1] == ("..",):
        raise ValueError(f"{where}: {fields['file']!r} lies outside videos/")
    split = fields["split"] if "split" in fields else split_of(fields["caption"], held_out)
    if split not in SPLITS:
        raise ValueError(f"{where}: unknown split {split!r}; known: {', '.join(SPLITS)}")
    return Caption(name, caption, fields.get("category") or "all", split)


def split_of(text: str, held_out: float) -> str:
    """Returns the split of a text, by a hash of it: `held_out` of all texts are "test", as many
    "validation", the others "train".
    """
    digest = hashlib.sha256(" ".join(text.lower().split()).encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < held_out:
        return "test"
    return "validation" if place < 2 * held_out else "train"
