"""Which clips an alignment method learns from: rows of labelled, paired and real clips."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from vidpref.datasets import pairs
from vidpref.datasets.clip_rows import ClipRows, JoinedRecords
from vidpref.files import write_text
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.stages.label import read_labels
from vidpref.stages.rows import preferred as preference_rows
from vidpref.stages.rows.inputs import Material
from vidpref.stages.rows.kto_classes import check_classes
from vidpref.stages.sample import read_clips

PAIRS = ("accepted_rejected", "best_worst")
MOTION = ("object_motion", "camera_motion")
_PAIRING = ("pairs", "max_pairs_per_prompt")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to make rows.

    Attributes:
        build: `(material, config, seed, folder) -> rows`.
        labels: whether it needs sampled clips with their labels.
        losers: whether it needs clips sampled for real scenes.
        k: clips of a row, given the config.
        fields: of the config that it reads.
        file: whether it needs a file of preferences.
    """

    build: Callable[[Material, ConfigDict, int, Path], ClipRows]
    labels: bool
    losers: bool
    k: Callable[[ConfigDict], int]
    fields: tuple[str, ...] = ()
    file: bool = False


def check_rows(config: ConfigDict) -> None:
    """Refuses an `align` section whose rows cannot be what its objective needs.

    Raises:
        ValueError: an unknown kind of rows or pairs, a field of theirs that is missing, another
            number of clips a row than the objective takes, or rows without its motion scores.
    """
    kind = kind_of(config)
    missing = [field for field in kind.fields if field not in config]
    if missing:
        raise ValueError(
            f"config.align.rows={config.get('rows', '')!r} needs config.align.{missing[0]}, which "
            f"this config has not"
        )
    OBJECTIVES[config.method].check_k(kind.k(config), f"config.align.method={config.method!r}")
    if config.get("pairs", PAIRS[0]) not in PAIRS:
        raise ValueError(f"config.align.pairs={config.pairs!r}: known are {', '.join(PAIRS)}")
    if OBJECTIVES[config.method].needs_motion and not (kind.labels or kind is KINDS["preferred"]):
        raise ValueError(f"config.align.rows={config.rows!r} has no motion scores")


def kind_of(config: ConfigDict) -> Kind:
    """Returns the kind of rows that `config.rows` names (by default what the objective takes)."""
    name = config.get("rows", "") or ("all" if OBJECTIVES[config.method].k == 1 else "pairs")
    if name not in KINDS:
        raise ValueError(f"config.align.rows={name!r}: known are {', '.join(KINDS)}")
    return KINDS[name]


def judged_dimensions(config: ConfigDict) -> tuple[str, ...]:
    """Returns the dimensions that the judge must score for the rows of an `align` section."""
    if not kind_of(config).labels:
        return ()
    motion = MOTION if OBJECTIVES[config.method].needs_motion else ()
    return (*_weights(config), *motion)


def scalar_reward(labels: pd.DataFrame, config: ConfigDict) -> np.ndarray:
    """Returns one reward a clip: a weighted sum of dimensions (VideoAlign 5.2), or `score`.

    Args:
        labels: of the label stage.
        config: the `align` section; `reward` {dimension: weight}, and `normalize_reward` for mean 0
            and deviation 1 over the labelled clips.

    Raises:
        ValueError: a dimension that the judge did not score, or weights of 0 alone.
    """
    weights = _weights(config) or {"score": 1.0}
    missing = [name for name in weights if name not in labels]
    if missing:
        raise ValueError(
            f"config.align.reward.{missing[0]}: the judge did not score it; add it to "
            "config.reward.dimensions"
        )
    reward = sum(weight * labels[name].to_numpy(np.float64) for name, weight in weights.items())
    if config.get("normalize_reward", False):
        reward = (reward - reward.mean()) / max(reward.std(), 1e-6)
    return reward.astype(np.float32)


def real_rows(material: Material, count: int) -> ClipRows:
    """Returns rows of one real clip; `count` 0 takes all there are.

    Raises:
        ValueError: fewer real clips than asked for, or none.
    """
    if material.encoded is not None:
        return preference_rows.real(material, count)
    indices, _ = material.data.real_clips(count)
    rows = np.asarray(indices)[:, None]
    return material.rows(material.data.clips, rows, np.ones(rows.shape))


def _all(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    labels = read_labels(material.labels)
    rows = np.arange(len(labels))[:, None]
    rewards = scalar_reward(labels, config)[:, None]
    check_classes(rewards, config)
    return material.rows(read_clips(material.clips), rows, rewards)


def _pairs(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    labels = read_labels(material.labels)
    rows, rewards = _choose_pairs(labels, config, seed, folder)
    more = {}
    if OBJECTIVES[config.method].needs_motion:
        missing = [name for name in MOTION if name not in labels]
        if missing:
            raise ValueError(
                f"{config.method} needs motion scores, and the judge gave no {missing[0]}: add it "
                "to config.reward.dimensions"
            )
        more["motion"] = labels[list(MOTION)].to_numpy(np.float32)[rows]
    return material.rows(read_clips(material.clips), rows, rewards, more)


def _winners(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    rows, rewards = _choose_pairs(read_labels(material.labels), config, seed, folder)
    chosen, first = np.unique(rows[:, 0], return_index=True)
    clips = read_clips(material.clips)
    return material.rows(clips, chosen[:, None], rewards[first, :1])


def _real(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    return real_rows(material, config.real_clips)


def _real_and_samples(material: Material, config: ConfigDict, seed: int, folder: Path) -> ClipRows:
    indices, scenes = material.data.real_clips(config.real_clips)
    losers = read_clips(material.losers)
    place = {losers[i]["clip_id"]: i for i in range(len(losers))}
    records = JoinedRecords(material.data.clips, losers)
    rows = [
        [index, *(records.starts[1] + place[f"{scene.id}/{i}"] for i in range(config.losers))]
        for index, scene in zip(indices, scenes, strict=True)
    ]
    rewards = np.zeros((len(rows), 1 + config.losers), np.float32)
    rewards[:, 0] = 1.0
    return material.rows(records, np.asarray(rows), rewards)


KINDS = {
    "all": Kind(_all, labels=True, losers=False, k=lambda c: 1),
    "pairs": Kind(_pairs, labels=True, losers=False, k=lambda c: 2, fields=_PAIRING),
    "winners": Kind(_winners, labels=True, losers=False, k=lambda c: 1, fields=_PAIRING),
    "real": Kind(_real, labels=False, losers=False, k=lambda c: 1, fields=("real_clips",)),
    "real_and_samples": Kind(
        _real_and_samples,
        labels=False,
        losers=True,
        k=lambda c: 1 + c.losers,
        fields=("real_clips", "losers"),
    ),
    # of a file of preferences
    "preferred": Kind(
        preference_rows.preferred, labels=False, losers=False, k=lambda c: 2, file=True
    ),
    "preferred_winners": Kind(
        preference_rows.winners, labels=False, losers=False, k=lambda c: 1, file=True
    ),
    "labelled": Kind(
        preference_rows.labelled, labels=False, losers=False, k=lambda c: 1, file=True
    ),
    "preferred_and_losers": Kind(
        preference_rows.with_losers,
        labels=False,
        losers=False,
        k=lambda c: 1 + c.losers,
        fields=("losers",),
        file=True,
    ),
}


def _weights(config: ConfigDict) -> dict[str, float]:
    """The dimensions that count in the reward; none where it is the judge's own score."""
    given = dict(config.get("reward") or {})
    weights = {name: weight for name, weight in given.items() if weight}
    if given and not weights:
        raise ValueError("config.align.reward: every weight is 0; what should be preferred?")
    return weights


def _choose_pairs(
    labels: pd.DataFrame, config: ConfigDict, seed: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of clips [n, 2] and their rewards [n, 2]; says how many scenes gave no pair."""
    table = labels[["scene_id", "clip_id"]].rename(columns={"scene_id": "prompt_id"})
    table["reward"] = scalar_reward(labels, config)
    if config.pairs == "best_worst":
        chosen, report = pairs.best_worst(table, config.max_pairs_per_prompt)
    else:
        chosen, report = pairs.accepted_rejected(table, config.max_pairs_per_prompt, seed)
    write_text(folder / "pairs.json", json.dumps(dataclasses.asdict(report), indent=2))
    logging.info("pairs: %d from %s", len(chosen), report)
    if chosen.empty:
        raise ValueError(
            f"no prompt gave a preference pair ({report}). The judge found no difference: sample "
            "more clips a prompt (config.label.per_prompt) or use another judge (config.reward)."
        )
    index = pd.Series(np.arange(len(labels)), index=labels["clip_id"])
    rows = np.stack([index[chosen["winner"]], index[chosen["loser"]]], axis=1)
    return rows, chosen[["reward_winner", "reward_loser"]].to_numpy(np.float32)
