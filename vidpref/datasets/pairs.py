"""Preference pairs from scored clips, with an account of the prompts that gave none.

Labels are a frame with columns prompt_id, clip_id and reward, one row a clip. Pairs are a frame
with columns prompt_id, winner, loser (clip ids), reward_winner, reward_loser. They depend on the
labels alone, not on the order of their rows.
"""

import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

_COLUMNS = ("prompt_id", "clip_id", "reward")
_PAIR_COLUMNS = ("prompt_id", "winner", "loser", "reward_winner", "reward_loser")


@dataclasses.dataclass(frozen=True)
class PairReport:
    """How many prompts gave pairs, and why the others did not.

    Attributes:
        prompts: prompts with labels.
        pairs: pairs chosen.
        too_few: prompts of a single clip.
        all_accepted: prompts whose clips all have reward 1.
        all_rejected: prompts whose clips all have reward 0.
        equal_scores: prompts whose clips all have another, equal reward.
    """

    prompts: int
    pairs: int
    too_few: int
    all_accepted: int
    all_rejected: int
    equal_scores: int

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs of the clips of {self.prompts} scenes; scenes without a pair: "
            f"{self.too_few} of a single clip, {self.all_accepted} all accepted, "
            f"{self.all_rejected} all rejected, {self.equal_scores} of equal scores"
        )


def best_worst(labels: pd.DataFrame, per_prompt: int = 1) -> tuple[pd.DataFrame, PairReport]:
    """Pairs the best clip of each prompt with its worst (best-of-N against worst-of-N).

    Among equally good (or bad) clips the one with the smallest id is taken.

    Args:
        labels: the scored clips.
        per_prompt: most pairs of a prompt: the best with the worst, the second best with the second
            worst, and so on while the first is better than the second.

    Raises:
        ValueError: a missing column, a reward that is not finite, a clip id that occurs twice, or
            `per_prompt` below 1.
    """
    if per_prompt < 1:
        raise ValueError(f"per_prompt={per_prompt} must be at least 1")

    def choose(prompt_id, clips: pd.DataFrame) -> Iterable[tuple[int, int]]:
        rewards = clips["reward"].to_numpy()
        down = np.argsort(-rewards, kind="stable")
        up = np.argsort(rewards, kind="stable")
        for winner, loser in zip(down[:per_prompt], up[:per_prompt], strict=True):
            if rewards[winner] > rewards[loser]:
                yield int(winner), int(loser)

    return _pair(labels, choose)


def accepted_rejected(
    labels: pd.DataFrame, max_pairs_per_prompt: int, seed: int
) -> tuple[pd.DataFrame, PairReport]:
    """Pairs accepted clips (reward 1) with rejected ones (reward 0) of the same prompt.

    Args:
        labels: the scored clips.
        max_pairs_per_prompt: most pairs of a prompt; of more combinations they are drawn at random
            without repetition.
        seed: seed of that draw; a prompt's draw does not depend on the other prompts.

    Raises:
        ValueError: as `best_worst`, and for a reward other than 0 and 1 or a limit below 1.
    """
    if max_pairs_per_prompt < 1:
        raise ValueError(f"max_pairs_per_prompt={max_pairs_per_prompt} must be at least 1")
    _check(labels)
    graded = labels[~labels["reward"].isin((0, 1))]
    if len(graded):
        clip = graded.iloc[0]
        raise ValueError(
            f"{len(graded)} rewards are neither 0 nor 1 (clip {clip['clip_id']!r}: "
            f"{clip['reward']}): pair graded rewards with best_worst"
        )

    def choose(prompt_id, clips: pd.DataFrame) -> Iterable[tuple[int, int]]:
        rewards = clips["reward"].to_numpy()
        accepted, rejected = np.flatnonzero(rewards == 1), np.flatnonzero(rewards == 0)
        rng = np.random.default_rng([seed, zlib.crc32(str(prompt_id).encode())])
        total = len(accepted) * len(rejected)
        drawn = rng.choice(total, min(total, max_pairs_per_prompt), replace=False)
        for i in np.sort(drawn):
            yield accepted[i // len(rejected)], rejected[i % len(rejected)]

    return _pair(labels, choose)


def _pair(
    labels: pd.DataFrame, choose: Callable[..., Iterable[tuple[int, int]]]
) -> tuple[pd.DataFrame, PairReport]:
    _check(labels)
    rows, without = [], Counter()
    table = labels.sort_values(["prompt_id", "clip_id"])
    for prompt_id, clips in table.groupby("prompt_id", sort=True):
        reason = _no_pair(clips["reward"].to_numpy())
        if reason:
            without[reason] += 1
            continue
        ids, rewards = clips["clip_id"].to_numpy(), clips["reward"].to_numpy()
        for winner, loser in choose(prompt_id, clips):
            rows.append((prompt_id, ids[winner], ids[loser], rewards[winner], rewards[loser]))
    reasons = ("too_few", "all_accepted", "all_rejected", "equal_scores")
    report = PairReport(
        prompts=int(table["prompt_id"].nunique()),
        pairs=len(rows),
        **{reason: without[reason] for reason in reasons},
    )
    return pd.DataFrame(rows, columns=list(_PAIR_COLUMNS)), report


def _no_pair(rewards: np.ndarray) -> str | None:
    if len(rewards) < 2:
        return "too_few"
    if rewards.min() < rewards.max():
        return None
    return {1.0: "all_accepted", 0.0: "all_rejected"}.get(float(rewards[0]), "equal_scores")


def _check(labels: pd.DataFrame) -> None:
    missing = [c for c in _COLUMNS if c not in labels]
    if missing:
        raise ValueError(
            f"labels have no column {', '.join(missing)}; they have {', '.join(map(str, labels))}"
        )
    nameless = labels.loc[labels["prompt_id"].isna(), "clip_id"]
    if len(nameless):
        raise ValueError(f"{len(nameless)} clips have no prompt, the first is {nameless.iloc[0]!r}")
    bad = labels.loc[~np.isfinite(labels["reward"].astype(float)), "clip_id"]
    if len(bad):
        raise ValueError(f"{len(bad)} clips have no finite reward, the first is {bad.iloc[0]!r}")
    repeated = labels.loc[labels["clip_id"].duplicated(), "clip_id"]
    if len(repeated):
        raise ValueError(
            f"{len(repeated)} clip ids occur twice, the first is {repeated.iloc[0]!r}: give each "
            "clip one reward (one dimension, one judge)"
        )
