"""Preference files as the data of a run: read once, kept as Parquet, opened with their latents."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from vidpref.datasets.preferences import Preferences, read_preferences
from vidpref.datasets.records import RecordFile
from vidpref.datasets.scenes import Data, Scene
from vidpref.datasets.video_folder import load_captions, split_of
from vidpref.digests import digest_files

REAL = "real"  # source of clips that no generator made
_LISTS = (".json", ".txt", ".csv")  # what a folder's clips and labels are listed in
_FRAMES = [field.name for field in dataclasses.fields(Preferences)]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Preferences whose clips have been encoded.

    Attributes:
        preferences: preferences of the train prompts, without clips that could not be read.
        records: latents of all clips.
        place: clip id -> number of its record.
        shapes: a number for the size of each record's clip, equal for equal sizes.
    """

    preferences: Preferences
    records: RecordFile
    place: pd.Series
    shapes: np.ndarray

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
            "config.data.pairs is empty: give a VideoAlign CSV, a JSON-lines file, or a VideoDPO "
            "or RealDPO folder (README, 'Your own preferences')"
        )
    for field in ("pairs", "real"):
        if data[field] and not Path(data[field]).expanduser().exists():
            raise ValueError(f"config.data.{field}={data[field]!r}: no such file or folder")
    if data.real and not with_real:
        raise ValueError("config.data.real is given, but config.align.real_weight mixes none in")
    if with_real and not data.real:
        clips = read_preferences(Path(data.pairs).expanduser(), data.layout).clips
        if not (clips["source"] == REAL).any():
            raise ValueError(
                f"config.align.real_weight mixes real clips in, and {data.pairs} has none: give a "
                "folder of videos with captions.csv as config.data.real, or set real_weight=0"
            )


def read(folder: Path, data: ConfigDict) -> None:
    """Reads `data.pairs`, and the real clips of `data.real`, into `folder/*.parquet`.

    Raises:
        ValueError: see `read_preferences` and `load_captions`.
    """
    if jax.process_index() != 0:
        return
    found = _read(data)
    for name in _FRAMES:
        getattr(found, name).to_parquet(folder / f"{name}.parquet")


def files_digest(data: ConfigDict, remembered: Path | None = None) -> str:
    """Returns digits of the lists of clips and verdicts, and of every clip that they name.

    Args:
        data: the config's section.
        remembered: see `digest_files`.
    """
    clips = _read(data).clips
    files = [(f"clip/{row.id}", Path(row.path)) for row in clips.itertuples()]
    for field in ("pairs", "real"):
        path = Path(data[field]).expanduser()
        if data[field] and path.is_file():
            files.append((field, path))
        elif data[field]:
            lists = [file for file in path.iterdir() if file.suffix in _LISTS]
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
    records = RecordFile(sorted(latents.glob("latents-*.array_record")))
    clips = frames["clips"][frames["clips"]["id"].isin(place.index)]
    splits = {text: split_of(text, data.held_out) for text in clips["prompt"].unique()}
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
    return Data(records, scenes, tuple(splits)), Encoded(kept, records, place, shapes)


def _read(data: ConfigDict) -> Preferences:
    """The preferences of `data.pairs`, with the real clips of `data.real`."""
    found = read_preferences(Path(data.pairs).expanduser(), data.layout)
    if data.real:
        root = Path(data.real).expanduser()
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
