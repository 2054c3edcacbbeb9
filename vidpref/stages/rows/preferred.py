"""Training rows of a file of preferences: pairs, winners, good and bad clips, several losers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.preferences import Preferences
from vidpref.datasets.preferences.gaps import pair_probabilities, stated_gaps
from vidpref.datasets.preferences.selection import (
    labelled_clips,
    motion_of,
    preferred_pairs,
    winners_and_losers,
)
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.stages.rows.inputs import RowInputs
from vidpref.stages.rows.two_classes import check_classes

_RULE = (
    "a pair prefers the clip with the larger weighted sum of verdicts (A +1, B -1, tie 0; of "
    "several judges their mean)"
)
_GOOD = f"{_RULE}; a clip is good that won more pairs than it lost, bad that lost more"
_SCORED = "a clip is good whose weighted sum of scores is above 0, bad below"


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
    """Rows of (winner, loser); McDPO's have their motion scores, some DPO's their probability.

    The reward of the winner less that of the loser is the gap that the data set states for the pair
    (`stated_gaps`), at least 0; where it states none, the margin of the verdicts.

    Raises:
        ValueError: weights by gap where some pairs state one and others none; weights by
            probability where a pair states none above 0; and as `preferred_pairs` and `motion_of`.
    """
    preferences, weights = inputs.encoded.preferences, weights_of(inputs, config)
    pairs, report = preferred_pairs(preferences, weights)
    more, objective = {}, OBJECTIVES[config.method]
    if objective.needs_pair_score({**config}):
        more["pair_score"] = _probabilities(preferences, pairs, weights)
    if objective.needs_motion:
        motion = motion_of(preferences)
        columns = [motion.loc[pairs[name]].to_numpy(np.float32) for name in ("winner", "loser")]
        more["motion"] = np.stack(columns, axis=1)
    gap, gaps = _gaps(inputs, pairs, config, weights)
    rewards = np.stack([np.where(np.isnan(gap), pairs["margin"], gap), np.zeros(len(pairs))], 1)
    said = {"weights": weights, "gaps": gaps}
    return _rows(inputs, config, pairs[["winner", "loser"]], rewards, report, more, **said)


def winners(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    """Rows of one clip that was preferred to another, each clip once."""
    weights = weights_of(inputs, config)
    pairs, report = preferred_pairs(inputs.encoded.preferences, weights)
    chosen = pairs[["winner"]].drop_duplicates()
    return _rows(inputs, config, chosen, np.ones(chosen.shape), report, weights=weights)


def labelled(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    """Rows of one clip, good (reward 1) or bad (0)."""
    weights = weights_of(inputs, config)
    clips, report = labelled_clips(inputs.encoded.preferences, weights)
    check_classes(clips["reward"].to_numpy(), config)
    rule = _SCORED if inputs.encoded.preferences.comparisons.empty else _GOOD
    said = {"weights": weights, "rule": rule}
    return _rows(inputs, config, clips[["clip"]], clips[["reward"]].to_numpy(), report, **said)


def with_losers(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    """Rows of a winner and several losers.

    Rewards are 1 for the winner and 0 for losers; where the data set states the gaps of all pairs
    of a row (`stated_gaps`), 0 for the winner and -gap for a loser.

    Raises:
        ValueError: as `preferred`, of gaps, and as `winners_and_losers`.
    """
    weights = weights_of(inputs, config)
    found, report = winners_and_losers(inputs.encoded.preferences, weights, config.losers)
    chosen = found.drop(columns="prompt")
    rewards = np.zeros(chosen.shape)
    rewards[:, 0] = 1.0
    losers = [column for column in chosen if column != "winner"]
    pairs = chosen.melt("winner", losers, value_name="loser")  # loser by loser
    gap, gaps = _gaps(inputs, pairs, config, weights)
    gap = gap.reshape(len(losers), len(chosen)).T
    stated = ~np.isnan(gap).any(axis=1)
    rewards[stated] = np.concatenate([np.zeros((len(gap), 1)), -gap], axis=1)[stated]
    return _rows(inputs, config, chosen, rewards, report, weights=weights, gaps=gaps)


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


def _gaps(
    inputs: RowInputs, pairs: pd.DataFrame, config: ConfigDict, weights: Mapping[str, float]
) -> tuple[np.ndarray, dict[str, int]]:
    """The gap of each pair, at least 0, or NaN; and how many are stated and contradict."""
    gap = stated_gaps(inputs.encoded.preferences, pairs, weights)
    counts = {"stated": int((~np.isnan(gap)).sum()), "contradicting": int((gap < 0).sum())}
    by_gap = config.pair_weight == "gap" and "pair_weight" in OBJECTIVES[config.method].hyper
    if by_gap and 0 < counts["stated"] < len(gap):
        row = pairs[np.isnan(gap)].iloc[0]
        raise ValueError(
            f"config.align.pair_weight='gap': {len(gap) - counts['stated']} of {len(gap)} pairs "
            f"state no gap of their scores, the first is {row['winner']} with {row['loser']}; "
            f"state all or none, in the dimensions {', '.join(weights)}"
        )
    if by_gap and counts["contradicting"]:
        logging.warning(
            "align: %d of %d gaps of scores contradict the verdict; these pairs weigh nothing",
            counts["contradicting"],
            len(gap),
        )
    return np.where(np.isnan(gap), gap, np.maximum(gap, 0.0)), counts


def _probabilities(
    preferences: Preferences, pairs: pd.DataFrame, weights: Mapping[str, float]
) -> np.ndarray:
    found = pair_probabilities(preferences, pairs, weights)
    lacking = ~(found > 0)
    if lacking.any():
        row = pairs[lacking].iloc[0]
        raise ValueError(
            f"config.align.pair_weight='probability': {lacking.sum()} of {len(pairs)} pairs have "
            f"no probability above 0 (score in VideoDPO's pair.json), the first is "
            f"{row['winner']} with {row['loser']}; add it, or use pair_weight='gap'"
        )
    return found.astype(np.float32)


def _rows(
    inputs: RowInputs,
    config: ConfigDict,
    ids: pd.DataFrame,
    rewards: np.ndarray,
    report: object,
    labels: dict[str, np.ndarray] | None = None,
    *,
    weights: Mapping[str, float],
    rule: str = _RULE,
    **said: Any,
) -> ClipRows:
    named = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
    logging.info("align: %s; the weights are %s", rule, named)
    inputs.account_for_pairs(report, len(ids), config, weights=weights, rule=rule, **said)
    if ids.empty:
        raise ValueError(f"the preferences gave no row to train on: {report}")
    place = inputs.encoded.place
    numbers = np.stack([place.loc[_column(ids, i)].to_numpy() for i in range(ids.shape[1])], 1)
    return inputs.rows(inputs.data.clips, numbers, rewards.astype(np.float32), labels)


def _column(ids: pd.DataFrame, i: int) -> Sequence[str]:
    return ids.iloc[:, i].tolist()
