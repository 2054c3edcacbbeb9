"""Preferences of the mini world, by the verifier: of clips that are true or wrong in one way, or of
clips that a generator drew.

What a frames stage and a file of preferences give a judge elsewhere lies in one folder here.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import decided
from vidpref.datasets.miniworld import DEFECTS, WorldPrompt, prompts, render_batch
from vidpref.datasets.miniworld.defects import Example, possible
from vidpref.datasets.preferences.frames import CLIPS, COMPARISONS, SCORES
from vidpref.datasets.prompts import SPLITS
from vidpref.datasets.records import RecordFile, write_records
from vidpref.files import write_table
from vidpref.rewards.verifier import Verifier
from vidpref.rewards.verifier.rules import RULES
from vidpref.seeds import fold_seed
from vidpref.stages.label import labels_of
from vidpref.stages.sample import read_clips, seen_clip

PREFERENCE_CLIPS = "preference_clips"  # name of the table that is `Preferences.clips`
_FILE = "frames-world.array_record"
_OTHER = {"A": "B", "B": "A"}


def write_world(
    folder: Path, section: ConfigDict, dimensions: Sequence[str], *, camera: bool, seed: int
) -> dict[str, int]:
    """Writes clips of the world as `write_frames` does, and preferences as `preferences.read` does.

    Of every prompt there are `clips_per_prompt` clips, the first true and each of the others wrong
    in one way, all compared with each other in every dimension by the verifier's scores: a tie
    where they differ by `tie` or less. Of the verdicts on train prompts that are no ties, the part
    `wrong` is turned round, each by chance. Scores are the verifier's, as ratings from 1 to 5.

    Args:
        folder: the stage's folder.
        section: `judge.world`.
        dimensions: of the verifier.
        camera: whether there are prompts in which the camera pans.
        seed: seed of clips and of what is turned round.

    Returns:
        The number of records of each file.
    """
    return decided(
        "the judged world", lambda: _write(folder, section, tuple(dimensions), camera, seed)
    )


def write_drawn(
    folder: Path,
    drawn: Mapping[str, tuple[Path, Path]],
    section: ConfigDict,
    dimensions: Sequence[str],
    *,
    seed: int,
) -> dict[str, int]:
    """Writes clips that a generator drew, and preferences, as `write_world` does.

    All clips of a prompt are compared with each other.

    Args:
        folder: the stage's folder.
        drawn: by split, the folders of the stages that drew its clips, maybe beside others, and
            that labelled them by the verifier.
        section: `judge.world`, of which `fps`, `tie` and `wrong` count.
        dimensions: of the verifier.
        seed: seed of what is turned round.

    Returns:
        The number of records of each file.

    Raises:
        ValueError: a clip without a score.
    """
    write = functools.partial(_write_drawn, folder, drawn, section, tuple(dimensions), seed)
    return decided("the judged clips", write)


def _write(
    folder: Path, section: ConfigDict, dimensions: tuple[str, ...], camera: bool, seed: int
) -> dict[str, int]:
    examples: list[Example] = []
    for split in SPLITS:
        # held-out clips are the same whatever is learnt from
        rng = np.random.default_rng(fold_seed(seed, "world", split))
        chosen = prompts(split, camera=camera)
        if split == "train" and section.prompts:
            chosen = [chosen[i] for i in rng.permutation(len(chosen))[: section.prompts]]
        for prompt in chosen:
            examples += _examples(prompt, section.clips_per_prompt, rng)
    clips = render_batch([example.scene() for example in examples])
    texts = [example.prompt.text for example in examples]
    judged = Verifier(dimensions).score(clips, texts)
    scores = np.stack([judged.scores[name] for name in dimensions], axis=1)
    ids = [f"{e.prompt.id}/{i}-{e.defect or 'true'}" for i, e in enumerate(examples)]
    records = (
        {"clip_id": name, "prompt": text, "video": clip, "fps": float(section.fps)}
        for name, text, clip in zip(ids, texts, clips, strict=True)
    )
    count = write_records(folder / _FILE, records)
    index = pd.DataFrame({"id": ids, "prompt": texts, "file": _FILE, "record": range(count)})
    index[["frames", "height", "width"]] = clips.shape[1:4]
    by_split = pd.Series([example.prompt.split for example in examples])
    rng = np.random.default_rng(fold_seed(seed, "verdicts"))
    _write_tables(folder, index, by_split, scores, judged.reasons, dimensions, section, rng)
    return {_FILE: count}


def _write_drawn(
    folder: Path,
    drawn: Mapping[str, tuple[Path, Path]],
    section: ConfigDict,
    dimensions: tuple[str, ...],
    seed: int,
) -> dict[str, int]:
    tables = []

    def records() -> Iterator[dict[str, Any]]:
        for split, (samples, labels) in drawn.items():
            clips = read_clips(samples)
            of_split = labels_of(clips, labels)
            of_split = of_split[of_split["split"] == split]
            tables.append(of_split)
            for number, name, text in zip(
                of_split.index, of_split["clip_id"], of_split["prompt"], strict=True
            ):
                video = seen_clip(clips[int(number)])
                yield {"clip_id": name, "prompt": text, "video": video, "fps": float(section.fps)}

    count = write_records(folder / _FILE, records())
    labels = pd.concat(tables, ignore_index=True)
    index = pd.DataFrame({"id": labels["clip_id"], "prompt": labels["prompt"], "file": _FILE})
    index["record"] = range(count)
    index[["frames", "height", "width"]] = RecordFile([folder / _FILE])[0]["video"].shape[:3]
    scores = labels[list(dimensions)].to_numpy(np.float64)
    if unscored := int(np.isnan(scores).any(axis=1).sum()):
        raise ValueError(f"the verifier gave no score to {unscored} of {count} clips")
    rng = np.random.default_rng(fold_seed(seed, "drawn"))
    reasons = labels["rationale"].tolist()
    _write_tables(folder, index, labels["split"], scores, reasons, dimensions, section, rng)
    return {_FILE: count}


def _write_tables(
    folder: Path,
    index: pd.DataFrame,
    splits: pd.Series,
    scores: np.ndarray,
    reasons: Sequence[str],
    dimensions: tuple[str, ...],
    section: ConfigDict,
    rng: np.random.Generator,
) -> None:
    ids, texts = index["id"].tolist(), index["prompt"].tolist()
    compared = _comparisons(ids, texts, scores, splits, dimensions, section, rng)
    rated = [
        (name, dimension, 1 + 4 * float(value), "verifier", _why(reason))
        for name, row, reason in zip(ids, scores, reasons, strict=True)
        for dimension, value in zip(dimensions, row, strict=True)
    ]
    named = index.assign(path="", source="mini world", fps=float(section.fps))
    tables = {
        PREFERENCE_CLIPS: named[list(CLIPS)].astype(CLIPS),
        "comparisons": pd.DataFrame(compared, columns=list(COMPARISONS)).astype(COMPARISONS),
        "scores": pd.DataFrame(rated, columns=list(SCORES)).astype(SCORES),
        "clips": index,
    }
    for name, table in tables.items():
        write_table(folder / f"{name}.parquet", table)


def _examples(prompt: WorldPrompt, count: int, rng: np.random.Generator) -> list[Example]:
    """A true clip, and others that are wrong in ways of their own as long as there are some."""
    ways = [name for name in DEFECTS if possible(name, prompt)]
    chosen = [ways[i] for i in rng.permutation(len(ways))]
    seeds = rng.integers(0, 2**31, count)
    defects = ["", *itertools.islice(itertools.cycle(chosen), count - 1)]
    return [Example(prompt, int(own), defect) for own, defect in zip(seeds, defects, strict=True)]


def _comparisons(
    ids: Sequence[str],
    texts: Sequence[str],
    scores: np.ndarray,
    splits: pd.Series,
    dimensions: Sequence[str],
    section: ConfigDict,
    rng: np.random.Generator,
) -> list[tuple]:
    found = []
    for numbers in splits.groupby(np.asarray(texts)).indices.values():
        for a, b in itertools.combinations(numbers.tolist(), 2):
            for i, dimension in enumerate(dimensions):
                gap = float(scores[a, i] - scores[b, i])
                verdict = "tie" if abs(gap) <= section.tie else "A" if gap > 0 else "B"
                turned = rng.random() < section.wrong and splits[a] == "train"
                verdict = _OTHER.get(verdict, verdict) if turned else verdict
                nan = float("nan")
                row = (ids[a], ids[b], texts[a], dimension, verdict, "verifier", "", nan, nan)
                found.append(row)
    return found


def reasons() -> tuple[str, ...]:
    """Returns all that is ever given as a reason."""
    return tuple(map(_why, RULES))


def _why(verdict: str) -> str:
    """The verifier's verdict as a reason."""
    return verdict.partition(": ")[2] or "nothing is wrong"
