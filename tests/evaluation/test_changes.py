"""Verdicts that changed, against the paired difference, which is computed another way."""

import pandas as pd
import pytest
from report_examples import RATES, clip_table

from vidpref.evaluation.changes import changes_table, verdict_changes
from vidpref.evaluation.statistics import evaluation_json


def test_changes_by_hand():
    before, now = [1, 1, 0, 0, 0], [0, 1, 1, 1, 0]
    rows = [("pretrained", i, accept) for i, accept in enumerate(before)]
    rows += [("dpo", i, accept) for i, accept in reversed(list(enumerate(now)))]
    frame = pd.DataFrame(rows, columns=["policy", "sample", "accept"])
    frame = frame.assign(split="test", prompt="a ball", category="OR")
    (found,) = verdict_changes(frame, "pretrained")
    assert (found.policy, found.split, found.clips) == ("dpo", "test", 5)
    assert (found.gained, found.lost) == (2, 1)
    assert (found.stayed_accepted, found.stayed_rejected) == (1, 1)


@pytest.mark.parametrize("seeds", [1, 2])
def test_gains_minus_losses_are_the_difference(seeds):
    frames = [clip_table(RATES, prompts=12, seed=seed) for seed in range(seeds)]
    frame = pd.concat([f.assign(training_seed=i) for i, f in enumerate(frames)])
    frame = frame.drop(columns=["training_seed"] if seeds == 1 else [])
    evaluation = evaluation_json(frame, best_of=None)
    found = verdict_changes(frame, "pretrained")
    mixed = verdict_changes(frame.sample(frac=1, random_state=0), "pretrained")
    assert {(c.policy, c.split): c for c in mixed} == {(c.policy, c.split): c for c in found}
    assert [c.split for c in found] == ["test"] * 4 + ["train"] * 4
    for change in found:
        paired = evaluation["paired"][change.policy][change.split]["diff"]
        assert (change.gained - change.lost) / change.clips == pytest.approx(paired)
        accepted = evaluation["policies"][change.policy][change.split]["accept"]
        assert (change.gained + change.stayed_accepted) / change.clips == pytest.approx(accepted)
    table = changes_table(found, "pretrained")
    assert [row[:2] for row in table.rows[:2]] == [["SFT", "held-out"], ["RWR", "held-out"]]
