"""Training rows of a file of preferences: pairs, winners, good and bad clips, several losers."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.preferences.selection import (
    labelled_clips,
    motion_of,
    preferred_pairs,
    winners_and_losers,
)
from vidpref.files import write_text
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.stages.rows.inputs import Material
from vidpref.stages.rows.kto_classes import check_classes


def weights_of(material: Material, config: ConfigDict) -> dict[str, float]:
    """Returns the weights of dimensions that are not 0; of none, all that the file has, alike.

    Raises:
        ValueError: nothing is said about any clip of a train prompt.
    """
    given = {name: weight for name, weight in config.reward.items() if weight}
    found = material.encoded.preferences
    names = (found.scores if found.comparisons.empty else found.comparisons)["dimension"].unique()
    if not len(names):
        raise ValueError(
            "there is nothing to learn from: no clip of a train prompt that could be read is "
            "compared or scored; see config.data.held_out, and bad_clips.csv in the work directory"
        )
    return given or dict.fromkeys(names, 1 / len(names))


def preferred(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    """Rows of (winner, loser); McDPO's have their motion scores."""
    preferences = material.encoded.preferences
    pairs, report = preferred_pairs(preferences, weights_of(material, config))
    more = {}
    if OBJECTIVES[config.method].needs_motion:
        motion = motion_of(preferences)
        columns = [motion.loc[pairs[name]].to_numpy(np.float32) for name in ("winner", "loser")]
        more["motion"] = np.stack(columns, axis=1)
    rewards = np.stack([pairs["margin"], np.zeros(len(pairs))], axis=1)
    return _rows(material, pairs[["winner", "loser"]], rewards, report, folder, more)


def winners(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    """Rows of one clip that was preferred to another, each clip once."""
    pairs, report = preferred_pairs(material.encoded.preferences, weights_of(material, config))
    chosen = pairs[["winner"]].drop_duplicates()
    return _rows(material, chosen, np.ones(chosen.shape), report, folder)


def labelled(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    """Rows of one clip, good (reward 1) or bad (0)."""
    clips, report = labelled_clips(material.encoded.preferences, weights_of(material, config))
    check_classes(clips["reward"].to_numpy(), config)
    return _rows(material, clips[["clip"]], clips[["reward"]].to_numpy(), report, folder)


def with_losers(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    """Rows of a winner and several losers."""
    weights = weights_of(material, config)
    found, report = winners_and_losers(material.encoded.preferences, weights, config.losers)
    chosen = found.drop(columns="prompt")
    rewards = np.zeros(chosen.shape)
    rewards[:, 0] = 1.0
    return _rows(material, chosen, rewards, report, folder)


def real(material: Material, count: int) -> ClipRows:
    """Rows of one real clip; `count` 0 takes all.

    Raises:
        ValueError: fewer than asked for, or none.
    """
    ids = material.encoded.real_clips()
    if len(ids) < max(count, 1):
        raise ValueError(
            f"{count or 'all'} real clips wanted, the data has {len(ids)}: give a folder of videos "
            "as config.data.real, or set config.align.real_weight=0"
        )
    chosen = np.random.default_rng(0).permutation(ids)[: count or None]
    place = material.encoded.place.loc[chosen].to_numpy()[:, None]
    return material.rows(material.data.clips, place, np.ones(place.shape))


def _rows(
    material: Material,
    ids: pd.DataFrame,
    rewards: np.ndarray,
    report: object,
    folder: Path,
    labels: dict[str, np.ndarray] | None = None,
) -> ClipRows:
    account = dataclasses.asdict(report)
    write_text(folder / "pairs.json", json.dumps(account, indent=2))
    logging.info("%d rows from %s", len(ids), report)
    if ids.empty:
        raise ValueError(f"the preferences gave no row to train on: {account}")
    place = material.encoded.place
    numbers = np.stack([place.loc[_column(ids, i)].to_numpy() for i in range(ids.shape[1])], 1)
    return material.rows(material.data.clips, numbers, rewards.astype(np.float32), labels)


def _column(ids: pd.DataFrame, i: int) -> Sequence[str]:
    return ids.iloc[:, i].tolist()
