"""The scores that a group's claims are judged by: differences of two policies over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from claimed.claim import Claim
from claimed.scores import Scores, same_clips
from vidpref.evaluation.intervals import Interval, clustered_rate, clustered_spread
from vidpref.evaluation.statistics import TIE
from vidpref.evaluation.verdicts import Measured, smallest_effect
from vidpref.typing import Array, Float, Int


class Evidence:
    """The scores of a group's policies that are there, by policy and seed.

    Args:
        scores: the folder.
        stored: seed -> policy's name in claims -> (its name in the folder, fingerprint).
    """

    def __init__(self, scores: Scores, stored: Mapping[int, Mapping[str, tuple[str, str]]]):
        self._scores, self._stored = scores, stored
        self._frames: dict[tuple[str, int], pd.DataFrame] = {}

    def policies(self) -> list[str]:
        """Returns the policies of which any seed is there."""
        return list(dict.fromkeys(name for names in self._stored.values() for name in names))

    def seeds(self, *policies: str) -> list[int]:
        """Returns the seeds of which all of these policies are there."""
        return sorted(s for s, names in self._stored.items() if all(p in names for p in policies))

    def has(self, policy: str, dimension: str) -> bool:
        """Whether the scores of all seeds of a policy have a dimension."""
        return all(dimension in self.clips(policy, seed) for seed in self.seeds(policy))

    def clips(self, policy: str, seed: int) -> pd.DataFrame:
        """Returns a policy's clips of one seed; see `Scores.read`."""
        if (policy, seed) not in self._frames:
            name, fingerprint = self._stored[seed][policy]
            self._frames[policy, seed] = self._scores.read(name, seed, fingerprint)
        return self._frames[policy, seed]

    def rate(
        self, policy: str, split: str, *, dimension: str = "accept", category: str = ""
    ) -> Interval:
        """Returns a policy's mean score over all seeds, of a category or of all."""
        frames = []
        for seed in self.seeds(policy):
            rows = self.clips(policy, seed)
            rows = rows[rows["split"] == split]
            frames.append(rows[rows["category"] == category] if category else rows)
        prompts, seeds = _clusters(frames)
        values = np.concatenate([f[dimension].to_numpy(np.float64) for f in frames])
        return clustered_rate(values, prompts, seeds)

    def of_seeds(self, policy: str, dimension: str, split: str = "test") -> list[float]:
        """Returns a policy's mean score with each seed that is there."""
        found = []
        for seed in self.seeds(policy):
            rows = self.clips(policy, seed)
            found.append(float(rows.loc[rows["split"] == split, dimension].mean()))
        return found

    def measured(self, claim: Claim, dimension: str) -> tuple[Measured, Interval]:
        """Returns the difference of a claim's policies on its prompts, and the win rate.

        Raises:
            ValueError: the clips of the two are not of the same prompts and noise.
        """
        values, prompts, seeds = self._differences(claim, dimension)
        spread = clustered_spread(values, prompts, seeds)
        won = 0.5 + 0.5 * np.sign(values) * (np.abs(values) >= TIE)
        found = Measured(float(values.mean()), spread, smallest_effect(dimension))
        return found, clustered_rate(won, prompts, seeds)

    def _differences(
        self, claim: Claim, dimension: str
    ) -> tuple[Float[Array, " n"], Int[Array, " n"], Int[Array, " n"]]:
        frames, values = [], []
        for seed in self.seeds(claim.policy, claim.baseline):
            ours, theirs = self.clips(claim.policy, seed), self.clips(claim.baseline, seed)
            if not same_clips([ours, theirs]):
                raise ValueError(
                    f"{claim.policy} and {claim.baseline}, seed {seed}: their scores are not of "
                    "the same clips; measure both with one --clips_per_prompt"
                )
            chosen = (ours["split"] == claim.split).to_numpy()
            difference = ours[dimension].to_numpy(np.float64) - theirs[dimension].to_numpy()
            frames.append(ours[chosen])
            values.append(difference[chosen])
        return np.concatenate(values), *_clusters(frames)


def _clusters(frames: Sequence[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray]:
    """Prompt and seed of every row of frames below each other, as numbers."""
    prompts = pd.factorize(pd.concat([frame["prompt"] for frame in frames]))[0]
    seeds = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    return prompts, seeds
