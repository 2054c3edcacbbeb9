"""Preference files as the data of a run: read once, kept as Parquet, opened with their latents."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import decided
from vidpref.datasets.preferences import Preferences, read_preferences
from vidpref.datasets.prompts import SPLITS
from vidpref.datasets.records import RecordFile
from vidpref.datasets.scenes import Data, Scene
from vidpref.datasets.video_folder import load_captions, split_of
from vidpref.digests import digest_files
from vidpref.storage.copies import here

REAL = "real"  # source of clips that no generator made
_BESIDE = "metadata.json"  # of a list of VideoDPO's pairs: its clips and their scores
# What a folder's clips and labels are listed in.
_LISTS = (".json", ".jsonl", ".ndjson", ".txt", ".csv", ".tsv")
_FRAMES = [field.name for field in dataclasses.fields(Preferences)]


@dataclasses.dataclass(frozen=True)
class PairCounts:
    """What a file of preferences holds: pairs = train + validation + test + unreadable.

    Attributes:
        verdicts: rows of comparisons, several of a pair where it has dimensions or judges.
        pairs: pairs of clips that are compared.
        train: of train prompts, both clips read: what can be learnt from.
        validation, test: held out by the hash of their prompt.
        unreadable: with a clip that could not be decoded.
        clips, unreadable_clips: all clips, and those that could not be decoded.
    """

    verdicts: int
    pairs: int
    train: int
    validation: int
    test: int
    unreadable: int
    clips: int
    unreadable_clips: int

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs of {self.clips} clips: {self.train} of train prompts; held out "
            f"{self.validation} of validation and {self.test} of test prompts; "
            f"{self.unreadable} with an unreadable clip"
        )


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Preferences whose clips have been encoded.

    Attributes:
        preferences: preferences of the train prompts, without clips that could not be read.
        records: latents of all clips.
        place: clip id -> number of its record.
        shapes: a number for the size of each record's clip, equal for equal sizes.
        counts: what the file holds of which `preferences` are a part.
    """

    preferences: Preferences
    records: RecordFile
    place: pd.Series
    shapes: np.ndarray
    counts: PairCounts | None = None

    def real_clips(self) -> list[str]:
        """Returns the ids of the clips that no generator made."""
        clips = self.preferences.clips
        return clips.loc[clips["source"] == REAL, "id"].tolist()


def check_preferences(data: ConfigDict, *, with_real: bool) -> None:
    """Refuses a `data` section without a file of preferences, before anything is computed.

    Args:
        data: the config's section.
        with_real: whether the method mixes real clips in.

    Raises:
        ValueError: a path that is missing or leads nowhere, real clips that are missing, or that
            are given and not used.
    """
    if not data.pairs:
        raise ValueError(
            "config.data.pairs is empty: give a VideoAlign CSV, a list in JSON, or a VideoDPO "
            "or RealDPO folder (README, 'Your own preferences')"
        )
    for field in ("pairs", "real"):
        if data[field] and not here(data[field]).exists():
            raise ValueError(f"config.data.{field}={data[field]!r}: no such file or folder")
    if data.real and not with_real:
        raise ValueError("config.data.real is given, but config.align.real_weight mixes none in")
    if with_real and not data.real:
        clips = read_preferences(here(data.pairs), data.layout).clips
        if not (clips["source"] == REAL).any():
            raise ValueError(
                f"config.align.real_weight mixes real clips in, and {data.pairs} has none: give a "
                "folder of videos with captions.csv as config.data.real, or set real_weight=0"
            )


def read(folder: Path, data: ConfigDict) -> None:
    """Reads `data.pairs`, and the real clips of `data.real`, into `folder/*.parquet`.

    How many pairs there are, and of which split, is logged.

    Raises:
        ValueError: see `read_preferences` and `load_captions`.
    """
    decided("preferences", lambda: _write(folder, data))


def _write(folder: Path, data: ConfigDict) -> None:
    found = _read(data)
    for name in _FRAMES:
        getattr(found, name).to_parquet(folder / f"{name}.parquet")
    splits = _splits(found.clips, data)
    logging.info("preferences: %s", count_pairs(found, splits, found.clips["id"]))


def files_digest(data: ConfigDict, remembered: Path | None = None) -> str:
    """Returns digits of the lists of clips and verdicts, and of every clip that they name.

    Args:
        data: the config's section.
        remembered: see `digest_files`.
    """
    clips = _read(data).clips
    files = [(f"clip/{row.id}", Path(row.path)) for row in clips.itertuples()]
    for field in ("pairs", "real"):
        path = here(data[field])
        if data[field] and path.is_file():
            files.append((field, path))
            if (beside := path.with_name(_BESIDE)).is_file():
                files.append((f"{field}/{_BESIDE}", beside))
        elif data[field]:
            lists = [file for file in path.iterdir() if file.suffix.lower() in _LISTS]
            files += [(f"{field}/{file.name}", file) for file in lists]
    return digest_files(files, remembered)


def clips_of(data: ConfigDict) -> pd.DataFrame:
    """Returns every clip with the path where it lies now, which may have changed since `read`."""
    return _read(data).clips


def open_encoded(data: ConfigDict, folder: Path, latents: Path) -> tuple[Data, Encoded]:
    """Opens preferences and the latents of their clips.

    Prompts are divided into train, validation and test by a hash of their text. Clips without a
    latent (the encode stage named them) take their comparisons with them; how many is logged.

    Args:
        data: the config's section.
        folder: folder of the preferences.
        latents: artifact of the encode stage.
    """
    frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _FRAMES}
    encoded = pd.read_parquet(latents / "clips.parquet")
    place = encoded.set_index("id")["record"]
    shapes = encoded.groupby(["height", "width"]).ngroup().to_numpy()
    if "file" in encoded:
        files = encoded["file"].unique()
    else:  # of a version that did not say so
        files = sorted(path.name for path in latents.glob("latents-*.array_record"))
    records = RecordFile([latents / file for file in files])
    clips = frames["clips"][frames["clips"]["id"].isin(place.index)]
    splits = _splits(clips, data)
    scenes = tuple(
        Scene(
            id=f"prompt-{number}",
            text=prompt,
            category="all",
            split=splits[prompt],
            first_frame=None,
            record=int(place[ids.iloc[0]]),
        )
        for number, (prompt, ids) in enumerate(clips.groupby("prompt", sort=False)["id"])
    )
    train = clips[clips["prompt"].map(splits) == "train"]
    comparisons, scores = frames["comparisons"], frames["scores"]
    both = comparisons["clip_a"].isin(place.index) & comparisons["clip_b"].isin(place.index)
    if not both.all():
        logging.warning("%d of %d comparisons have a clip that is bad", (~both).sum(), len(both))
    kept = Preferences(
        train.reset_index(drop=True),
        comparisons[both & comparisons["clip_a"].isin(train["id"])].reset_index(drop=True),
        scores[scores["clip"].isin(train["id"])].reset_index(drop=True),
    )
    counts = count_pairs(Preferences(**frames), _splits(frames["clips"], data), place.index)
    return Data(records, scenes, tuple(splits)), Encoded(kept, records, place, shapes, counts)


def count_pairs(
    preferences: Preferences, splits: Mapping[str, str], readable: Iterable[str]
) -> PairCounts:
    """Returns how many pairs of clips there are to learn from, and what becomes of the others.

    Args:
        preferences: all of a file.
        splits: split of each prompt.
        readable: ids of the clips that could be read.
    """
    said, clips, readable = preferences.comparisons, preferences.clips, set(readable)
    unordered = np.sort(said[["clip_a", "clip_b"]].to_numpy(dtype=str), axis=1)
    pairs = pd.DataFrame(unordered, columns=["first", "second"]).assign(prompt=said["prompt"])
    pairs = pairs.drop_duplicates()
    read = pairs["first"].isin(readable) & pairs["second"].isin(readable)
    found = pairs.loc[read, "prompt"].map(dict(splits)).value_counts()
    return PairCounts(
        verdicts=len(said),
        pairs=len(pairs),
        unreadable=int((~read).sum()),
        clips=len(clips),
        unreadable_clips=int((~clips["id"].isin(readable)).sum()),
        **{split: int(found.get(split, 0)) for split in SPLITS},
    )


def _splits(clips: pd.DataFrame, data: ConfigDict) -> dict[str, str]:
    return {text: split_of(text, data.held_out) for text in clips["prompt"].unique()}


def _read(data: ConfigDict) -> Preferences:
    """The preferences of `data.pairs`, with the real clips of `data.real`."""
    found = read_preferences(here(data.pairs), data.layout)
    if data.real:
        root = here(data.real)
        rows = [
            {
                "id": f"real/{c.file}",
                "path": str(root / "videos" / c.file),
                "prompt": " ".join(c.text.split()),  # one line, for the text cache
            }
            for c in load_captions(root, held_out=0.0)
            if c.split == "train"
        ]
        real = pd.DataFrame(rows).assign(source=REAL, fps=float("nan"), frames=float("nan"))
        clips = pd.concat([found.clips, real[found.clips.columns]], ignore_index=True)
        found = dataclasses.replace(found, clips=clips)
    return found
