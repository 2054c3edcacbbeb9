"""Which clips an alignment method learns from: rows of labelled, paired and real clips."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from vidpref.config.align import SAMPLED_ROWS
from vidpref.datasets import pairs
from vidpref.datasets.clip_rows import ClipRows, JoinedRecords
from vidpref.datasets.preferences.selection import MOTION
from vidpref.datasets.scenes import real_scene_id
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.stages.label import labels_of
from vidpref.stages.rows import preferred as preference_rows
from vidpref.stages.rows.fresh import SceneRows
from vidpref.stages.rows.inputs import RowInputs
from vidpref.stages.rows.two_classes import check_classes
from vidpref.stages.sample import clip_id_of, read_clips

# Of the prompts. A policy that learnt from the pair of 1 of 100 drew nothing that was accepted.
_FEWEST_TOLD_APART = 0.02


@dataclasses.dataclass(frozen=True)
class RowBuilder:
    """A way to make rows.

    Attributes:
        build: `(inputs, config) -> rows`.
        k: `config -> clips of a row`.
        labels: whether it needs sampled clips with their labels.
        losers: whether it needs clips sampled for real scenes.
        file: whether it needs a file of preferences.
        motion: whether rows can have the motion scores of their clips.
        pair_score: whether rows can have the probability of their pair's scores.
        fresh: whether rows are scenes, whose clips the policy draws before a step.
    """

    build: Callable[[RowInputs, ConfigDict], ClipRows | SceneRows]
    k: Callable[[ConfigDict], int]
    labels: bool = False
    losers: bool = False
    file: bool = False
    motion: bool = False
    pair_score: bool = False
    fresh: bool = False

    @property
    def judged(self) -> bool:
        """Whether a judge scores the clips that are learnt from."""
        return self.labels or self.fresh


def check_rows(config: ConfigDict) -> None:
    """Refuses an `align` section whose rows cannot be what its objective needs.

    Raises:
        ValueError: another number of clips a row than the objective takes, graded rewards where
            pairs want 0 and 1, or rows without the objective's motion scores or probabilities.
    """
    builder = row_builder(config)
    OBJECTIVES[config.method].check_k(builder.k(config), f"config.align.method={config.method!r}")
    graded = [name for name in counting_weights(config) if name != "accept"]
    if graded and config.rows in SAMPLED_ROWS[1:] and config.pairs == "accepted_rejected":
        raise ValueError(
            f"config.align.reward.{graded[0]} is graded, and config.align.pairs="
            "'accepted_rejected' pairs rewards of 0 and 1: use --config.align.pairs=best_worst"
        )
    if OBJECTIVES[config.method].needs_motion and not builder.motion:
        raise ValueError(f"config.align.rows={config.rows!r} has no motion scores")
    if OBJECTIVES[config.method].needs_pair_score({**config}) and not builder.pair_score:
        raise ValueError(
            f"config.align.rows={config.rows!r} has no probabilities of pairs, which "
            "config.align.pair_weight='probability' needs: rows='preferred' of a VideoDPO folder "
            "has; use pair_weight='gap'"
        )


def row_builder(config: ConfigDict) -> RowBuilder:
    """Returns the builder that `config.rows` names."""
    return ROW_BUILDERS[config.rows]


def judged_dimensions(config: ConfigDict) -> tuple[str, ...]:
    """Returns the dimensions that the judge must score for the rows of an `align` section."""
    if not row_builder(config).judged:
        return ()
    objective = OBJECTIVES.get(config.method)
    motion = MOTION if objective is not None and objective.needs_motion else ()
    return (*counting_weights(config), *motion)


def scalar_reward(labels: pd.DataFrame, config: ConfigDict) -> np.ndarray:
    """Returns one reward a clip: a weighted sum of dimensions (VideoAlign 5.2), or `score`.

    Args:
        labels: labels of the label stage.
        config: the `align` section; `reward` {dimension: weight}, of which all may be 0 for the
            judge's score, and `normalize_reward` for mean 0 and deviation 1 over all clips.

    Raises:
        ValueError: a dimension that the judge did not score.
    """
    weights = counting_weights(config) or {"score": 1.0}
    missing = [name for name in weights if name not in labels]
    if missing:
        raise ValueError(
            f"config.align.reward.{missing[0]}: the judge did not score it; add it to "
            "config.reward.dimensions"
        )
    reward = sum(weight * labels[name].to_numpy(np.float64) for name, weight in weights.items())
    if config.normalize_reward:
        reward = (reward - reward.mean()) / max(reward.std(), 1e-6)
    return reward.astype(np.float32)


def real_rows(inputs: RowInputs, count: int) -> ClipRows:
    """Returns rows of one real clip; `count` 0 takes all there are.

    Raises:
        ValueError: fewer real clips than asked for, or none.
    """
    if inputs.encoded is not None:
        return preference_rows.real(inputs, count)
    rows = np.asarray(inputs.data.real_clips(count))[:, None]
    return inputs.rows(inputs.data.clips, rows, np.ones(rows.shape))


def _all(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    clips = read_clips(inputs.clips)
    labels = labels_of(clips, inputs.labels)
    rewards = scalar_reward(labels, config)[:, None]
    check_classes(rewards, config)
    return inputs.rows(clips, labels.index.to_numpy()[:, None], rewards)


def _pairs(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    clips = read_clips(inputs.clips)
    labels = labels_of(clips, inputs.labels)
    rows, rewards = _choose_pairs(labels, config, inputs)
    more = {}
    if OBJECTIVES[config.method].needs_motion:
        missing = [name for name in MOTION if name not in labels]
        if missing:
            raise ValueError(
                f"{config.method} needs motion scores, and the judge gave no {missing[0]}: add it "
                "to config.reward.dimensions"
            )
        columns = [labels[name].loc[rows.ravel()].to_numpy(np.float32) for name in MOTION]
        more["motion"] = np.stack(columns, axis=-1).reshape(*rows.shape, len(MOTION))
    return inputs.rows(clips, rows, rewards, more)


def _winners(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    clips = read_clips(inputs.clips)
    rows, rewards = _choose_pairs(labels_of(clips, inputs.labels), config, inputs)
    chosen, first = np.unique(rows[:, 0], return_index=True)
    return inputs.rows(clips, chosen[:, None], rewards[first, :1])


def _real(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    return real_rows(inputs, config.real_clips)


def _scenes(inputs: RowInputs, config: ConfigDict) -> SceneRows:
    return SceneRows(inputs.data.scenes("train", config.online.prompts), inputs.seen)


def _real_and_samples(inputs: RowInputs, config: ConfigDict) -> ClipRows:
    indices = inputs.data.real_clips(config.real_clips)
    losers = read_clips(inputs.losers)
    records = JoinedRecords(inputs.data.clips, losers)
    ids = [clip_id_of(real_scene_id(n), i) for n in indices for i in range(config.losers)]
    numbers = records.starts[1] + losers.numbers(ids).reshape(len(indices), config.losers)
    rows = np.concatenate([np.asarray(indices)[:, None], numbers], axis=1)
    rewards = np.zeros(rows.shape, np.float32)
    rewards[:, 0] = 1.0
    return inputs.rows(records, rows, rewards)


ROW_BUILDERS = {
    # of sampled and of real clips
    "all": RowBuilder(_all, k=lambda c: 1, labels=True),
    "pairs": RowBuilder(_pairs, k=lambda c: 2, labels=True, motion=True),
    "winners": RowBuilder(_winners, k=lambda c: 1, labels=True),
    "real": RowBuilder(_real, k=lambda c: 1),
    "real_and_samples": RowBuilder(
        _real_and_samples,
        k=lambda c: 1 + c.losers,
        losers=True,
    ),
    # of a file of preferences
    "preferred": RowBuilder(
        preference_rows.preferred, k=lambda c: 2, file=True, motion=True, pair_score=True
    ),
    "preferred_winners": RowBuilder(preference_rows.winners, k=lambda c: 1, file=True),
    "labelled": RowBuilder(preference_rows.labelled, k=lambda c: 1, file=True),
    "preferred_and_losers": RowBuilder(
        preference_rows.with_losers, k=lambda c: 1 + c.losers, file=True
    ),
    # of scenes whose clips are drawn before a step
    "fresh": RowBuilder(_scenes, k=lambda c: 1, fresh=True),
    "fresh_pairs": RowBuilder(_scenes, k=lambda c: 2, motion=True, fresh=True),
    "fresh_winners": RowBuilder(_scenes, k=lambda c: 1, fresh=True),
}


def counting_weights(config: ConfigDict) -> dict[str, float]:
    """Returns the weights of what counts in the reward; none where it is the judge's own score."""
    return {name: weight for name, weight in config.reward.items() if weight}


def _choose_pairs(
    labels: pd.DataFrame, config: ConfigDict, inputs: RowInputs
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of clips [n, 2] and their rewards [n, 2]; says how many scenes gave no pair."""
    table = labels[["scene_id", "clip_id"]].rename(columns={"scene_id": "prompt_id"})
    table["reward"] = scalar_reward(labels, config)
    if config.pairs == "best_worst":
        chosen, report = pairs.best_worst(table, config.max_pairs_per_prompt)
    else:
        chosen, report = pairs.accepted_rejected(table, config.max_pairs_per_prompt, inputs.seed)
    inputs.account_for_pairs(report, len(chosen), config)
    told_apart = chosen["prompt_id"].nunique()
    if told_apart <= _FEWEST_TOLD_APART * report.prompts:
        raise ValueError(
            f"{told_apart or 'no'} prompt{'s'[: told_apart > 1]} gave a preference pair "
            f"({report}). The judge finds no difference between the clips of a prompt: sample more "
            "of them (config.label.per_prompt) or use another judge (config.reward)."
        )
    numbers = pd.Series(labels.index, index=labels["clip_id"])
    rows = np.stack([numbers[chosen["winner"]], numbers[chosen["loser"]]], axis=1)
    return rows, chosen[["reward_winner", "reward_loser"]].to_numpy(np.float32)
