"""Clips that a judge learns nothing from, and how well its scores order them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vidpref.datasets.preferences import Preferences
from vidpref.datasets.preferences.labels import clip_ratings
from vidpref.objectives.preference import Preference, pair_metrics
from vidpref.stages.judge_rows import SeenClips, compared
from vidpref.typing import Float, Int

ACCOUNT, SCORES = "judge.json", "scores.parquet"  # in the folder of a stage that trains a judge


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Clips that nothing is learnt from, and what was said of them.

    Attributes:
        numbers: of the clips, in `SeenClips.index`.
        pairs: likewise, of those that are compared.
        labels: numbers of `Preference` of each pair.
        ratings: of each clip, NaN where there is none.
    """

    numbers: Int[np.ndarray, " n"]
    pairs: Int[np.ndarray, "p 2"]
    labels: Int[np.ndarray, "p d"]
    ratings: Float[np.ndarray, "n d"]

    @classmethod
    def of(cls, said: Preferences, seen: SeenClips, dimensions: Sequence[str]) -> "HeldOut":
        """Returns the clips of a split that could be read.

        Args:
            said: what was said of its clips.
            seen: the clips that could be read.
            dimensions: which labels and ratings.
        """
        ids = seen.index.index
        numbers = ids.get_indexer(said.clips["id"])
        numbers = numbers[numbers >= 0]
        pairs, labels = compared(said, seen, tuple(dimensions))
        ratings = clip_ratings(said, dimensions).reindex(ids[numbers]).to_numpy(np.float32)
        return cls(numbers, pairs, labels, ratings)


def pair_accuracy(
    dimensions: Sequence[str], scores: Float[np.ndarray, "n d"], held_out: HeldOut
) -> dict[str, dict[str, Any]]:
    """Returns, by dimension, the pairs with a winner and the share of them that is ordered right.

    Equal scores are half right, and so is a pair of which a clip has no score.

    Args:
        dimensions: their names.
        scores: of the clips of `held_out.numbers`; NaN for none.
        held_out: the clips.
    """
    place = {number: i for i, number in enumerate(held_out.numbers.tolist())}
    sides = [scores[[place[n] for n in side]] for side in held_out.pairs.T.tolist()]
    unknown = np.isnan(sides[0]) | np.isnan(sides[1])
    a, b = (jnp.asarray(np.where(unknown, 0.0, side)) for side in sides)
    accuracy = pair_metrics(a, b, held_out.labels)["accuracy"]
    found = {}
    for i, name in enumerate(dimensions):
        decided = int((held_out.labels[:, i] < Preference.TIE).sum())
        found[name] = {"decided": decided, "accuracy": float(accuracy[i]) if decided else None}
    return found
