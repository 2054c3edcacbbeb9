"""RealDPO's folder: real clips, and for each the clips that a model sampled for its prompt.

    prompt.txt, video.txt                line i of both belong together
    negative_samples/<stem>/0.mp4, ...   for the real clip videos/<stem>.mp4

Lines of video.txt are paths from the folder. Format: Vchitect/RealDPO, demo_data/train_data and
finetune/datasets/i2v_dataset.py.
"""

import os
import re
from pathlib import Path

from vidpref.datasets.preferences.collecting import Collector
from vidpref.datasets.preferences.frames import Preferences
from vidpref.text_files import read_text

DIMENSION = "real"
SOURCE = "real"


def read_realdpo(path: Path) -> Preferences:
    """Reads the folder: a real clip beats each of its negatives in the dimension "real".

    Raises:
        ValueError: a missing file, an empty line, files of different lengths, a clip named twice,
            no or no numbered negatives, and all of `Collector`. Names file and line.
    """
    videos, prompts = _lines(path / "video.txt"), _lines(path / "prompt.txt")
    if len(videos) != len(prompts):
        raise ValueError(
            f"{path}: video.txt has {len(videos)} lines, prompt.txt {len(prompts)}; line i of both "
            "must belong together"
        )
    collector = Collector(path)
    lines: dict[str, int] = {}
    for line, (video, prompt) in enumerate(zip(videos, prompts, strict=True), start=1):
        where = f"{path / 'video.txt'}, line {line}"
        stem = Path(video).stem
        if lines.setdefault(stem, line) != line:
            raise ValueError(
                f"{where}: a clip named {stem} stands in line {lines[stem]} too; they would share "
                "their negatives"
            )
        real = collector.clip(where, video, prompt, source=SOURCE)
        for negative in _negatives(path / "negative_samples" / stem, where):
            loser = collector.clip(where, str(negative.relative_to(path)), prompt)
            collector.compare(where, real, loser, DIMENSION, "A")
    return collector.preferences(path)


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
    for number, line in enumerate(lines, start=1):
        if not line:
            raise ValueError(f"{path}, line {number}: empty; remove or fill it")
    return lines


def _negatives(folder: Path, where: str) -> list[Path]:
    if not os.path.isdir(folder):  # unlike is_dir, also where the name is too long for a file
        raise ValueError(f"{where}: no folder {folder} with its negatives 0.mp4, 1.mp4, ...")
    clips = [clip for clip in folder.glob("*.mp4") if re.fullmatch(r"\d+", clip.stem)]
    if not clips:
        raise ValueError(f"{where}: {folder} has no negatives 0.mp4, 1.mp4, ...")
    return sorted(clips, key=lambda clip: int(clip.stem))
