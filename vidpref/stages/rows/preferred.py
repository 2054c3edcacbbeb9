"""Training rows of a file of preferences: pairs, winners, good and bad clips, several losers."""

import dataclasses
from collections.abc import Sequence

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
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.stages.rows.inputs import RowInputs
from vidpref.stages.rows.two_classes import check_classes


def weights_of(inputs: RowInputs, config: ConfigDict) -> dict[str, float]:
    """Returns the weights of dimensions that are not 0; of none, all that the file has, alike.

    Raises:
        ValueError: nothing is said about any clip of a train prompt.
    """
    given = {name: weight for name, weight in config.reward.items() if weight}
    found = inputs.encoded.preferences
    names = (found.scores if found.comparisons.empty else found.comparisons)["dimension"].unique()
    if not len(names):
        raise ValueError(
            "there is nothing to learn from: no clip of a train prompt that could be read is "
            "compared or scored; see config.data.held_out, and bad_clips.csv in the work directory"
        )
    return given or dict.fromkeys(names, 1 / len(names))


def preferred(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    """Rows of (winner, loser); McDPO's have their motion scores."""
    preferences = inputs.encoded.preferences
    pairs, report = preferred_pairs(preferences, weights_of(inputs, config))
    more = {}
    if OBJECTIVES[config.method].needs_motion:
        motion = motion_of(preferences)
        columns = [motion.loc[pairs[name]].to_numpy(np.float32) for name in ("winner", "loser")]
        more["motion"] = np.stack(columns, axis=1)
    rewards = np.stack([pairs["margin"], np.zeros(len(pairs))], axis=1)
    return _rows(inputs, pairs[["winner", "loser"]], rewards, report, more)


def winners(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    """Rows of one clip that was preferred to another, each clip once."""
    pairs, report = preferred_pairs(inputs.encoded.preferences, weights_of(inputs, config))
    chosen = pairs[["winner"]].drop_duplicates()
    return _rows(inputs, chosen, np.ones(chosen.shape), report)


def labelled(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    """Rows of one clip, good (reward 1) or bad (0)."""
    clips, report = labelled_clips(inputs.encoded.preferences, weights_of(inputs, config))
    check_classes(clips["reward"].to_numpy(), config)
    return _rows(inputs, clips[["clip"]], clips[["reward"]].to_numpy(), report)


def with_losers(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    """Rows of a winner and several losers."""
    weights = weights_of(inputs, config)
    found, report = winners_and_losers(inputs.encoded.preferences, weights, config.losers)
    chosen = found.drop(columns="prompt")
    rewards = np.zeros(chosen.shape)
    rewards[:, 0] = 1.0
    return _rows(inputs, chosen, rewards, report)


def real(inputs: RowInputs, count: int) -> ClipRows:
    """Rows of one real clip; `count` 0 takes all.

    Raises:
        ValueError: fewer than asked for, or none.
    """
    ids = inputs.encoded.real_clips()
    if len(ids) < max(count, 1):
        raise ValueError(
            f"{count or 'all'} real clips wanted, the data has {len(ids)}: give a folder of videos "
            "as config.data.real, or set config.align.real_weight=0"
        )
    chosen = np.random.default_rng(0).permutation(ids)[: count or None]
    place = inputs.encoded.place.loc[chosen].to_numpy()[:, None]
    return inputs.rows(inputs.data.clips, place, np.ones(place.shape))


def _rows(
    inputs: RowInputs,
    ids: pd.DataFrame,
    rewards: np.ndarray,
    report: object,
    labels: dict[str, np.ndarray] | None = None,
) -> ClipRows:
    inputs.account_for_pairs(report)
    logging.info("%d rows from %s", len(ids), report)
    if ids.empty:
        raise ValueError(f"the preferences gave no row to train on: {dataclasses.asdict(report)}")
    place = inputs.encoded.place
    numbers = np.stack([place.loc[_column(ids, i)].to_numpy() for i in range(ids.shape[1])], 1)
    return inputs.rows(inputs.data.clips, numbers, rewards.astype(np.float32), labels)


def _column(ids: pd.DataFrame, i: int) -> Sequence[str]:
    return ids.iloc[:, i].tolist()
