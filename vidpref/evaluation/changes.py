"""How many clips have another verdict than those of the baseline, of the same prompt and noise."""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from vidpref.evaluation.rounds import by_method, title
from vidpref.evaluation.tables import SPLITS, Table

ACCEPTED = 0.5  # a score above it
SPLIT_ORDER = ("test", "validation", "train")
_KEYS = ("training_seed", "prompt", "scene_id", "sample")


@dataclasses.dataclass(frozen=True)
class Changes:
    """How many clips of a policy have which verdict, and which that of the baseline had.

    Attributes:
        policy: the later policy.
        split: split of the clips' prompts.
        gained: rejected before, accepted now.
        lost: accepted before, rejected now.
        stayed_accepted: accepted both times.
        stayed_rejected: rejected both times.
    """

    policy: str
    split: str
    gained: int
    lost: int
    stayed_accepted: int
    stayed_rejected: int

    @property
    def clips(self) -> int:
        """All."""
        return self.gained + self.lost + self.stayed_accepted + self.stayed_rejected


def verdict_changes(frame: pd.DataFrame, baseline: str) -> list[Changes]:
    """Returns the changes of every policy and split, clip by clip with the same prompt and noise.

    Held-out prompts come first, and in each split the policies by method and round.

    Args:
        frame: one row a clip, as `statistics.evaluation_json` takes it; a score above 0.5 is
            accepted.
        baseline: the policy that the others are compared to.
    """
    there = set(frame["split"])
    splits = [s for s in SPLIT_ORDER if s in there] + sorted(there - {*SPLIT_ORDER})
    methods = by_method(frame["policy"].unique(), baseline)
    found = []
    for split in splits:
        rows = frame[frame["split"] == split]
        known = set(rows["policy"])
        policies = [name for names in methods.values() for name in names if name in known]
        found += [_changes(rows, split, policy, baseline) for policy in policies]
    return found


def changes_table(changes: Sequence[Changes], baseline: str) -> Table:
    """Returns changes as a table, one a row.

    Args:
        changes: from `verdict_changes`.
        baseline: the policy that the others are compared to.
    """
    columns = ["Policy", "Prompts", "Rejected, now accepted", "Accepted, now rejected"]
    columns += ["Stayed accepted", "Stayed rejected", "Clips"]
    rows = []
    for c in changes:
        counts = (c.gained, c.lost, c.stayed_accepted, c.stayed_rejected, c.clips)
        rows.append([title(c.policy), SPLITS.get(c.split, c.split), *counts])
    caption = f"Clips, against those of {title(baseline)} of the same prompt and noise."
    return Table("Verdicts that changed", columns, rows, caption)


def _changes(frame: pd.DataFrame, split: str, policy: str, baseline: str) -> Changes:
    keys = [key for key in _KEYS if key in frame]
    verdicts = frame.assign(accepted=frame["accept"] > ACCEPTED).set_index(keys)
    before = verdicts.loc[verdicts["policy"] == baseline, "accepted"]
    now = verdicts.loc[verdicts["policy"] == policy, "accepted"].reindex(before.index)
    counts = (before & ~now, ~before & now, before & now, ~before & ~now)
    lost, gained, accepted, rejected = (int(which.sum()) for which in counts)
    return Changes(policy, split, gained, lost, accepted, rejected)
