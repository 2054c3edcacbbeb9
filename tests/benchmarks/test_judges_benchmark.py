"""The tables of benchmarks/judges.py, of margins whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from claimed import judges

from vidpref.config.by_name import named_config
from vidpref.rewards.registry import JUDGE
from vidpref.runs.graph import in_order
from vidpref.runs.methods import open_recipe

SCORES = judges.SCORES


def frames_of(noise):
    """Held-out pairs of three seeds, of whose margins each setting has its share of noise."""
    found = {}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        true = rng.normal(size=300)
        verdict = np.where(np.abs(true) < 0.2, "tie", np.where(true > 0, "A", "B"))
        pairs = pd.DataFrame(
            {
                "clip_a": [f"a{i}" for i in range(300)],
                "clip_b": [f"b{i}" for i in range(300)],
                "prompt": [f"p{i // 6}" for i in range(300)],
                "dimension": np.tile(judges.DIMENSIONS, 100),
                "verdict": verdict,
            }
        )
        for number, name in enumerate(SCORES.settings):
            own = np.random.default_rng([seed, number])
            margin = true + noise.get(name, 0.5) * own.normal(size=300)
            found[name, seed] = pairs.assign(margin=margin)
    return found


def test_a_judge_of_noise_is_refuted_and_the_better_one_holds():
    frames = frames_of({"BTT": 0.0, "regression": 3.0, "30 % wrong": 3.0})
    said = {row[0]: row for row in judges.verdict_table(SCORES, frames, [0, 1, 2]).rows}
    assert [row[0] for row in said.values()] == [claim for claim, *_ in SCORES.claims]
    assert said["BTT beats regression (VideoAlign Fig. 2)"][-1] == "holds"
    assert said["30 % of wrong labels do not matter"][-1] == "refuted"
    accuracies = {row[0]: row[2:] for row in judges.accuracy_table(SCORES, frames, [0, 1, 2]).rows}
    assert [cell.value for cell in accuracies["BTT"]] == [1.0, 1.0, 1.0]
    assert all(0.5 < cell.value < 0.75 for cell in accuracies["regression"])
    table = judges.tie_table(SCORES, frames, [0])
    ties = {row[0]: [float(cell) for cell in row[1:]] for row in table.rows}
    assert ties["BTT"][2] < 0.2 < 0.8 < ties["regression"][2]


def test_other_pairs_are_refused():
    frames = frames_of({})
    frames["BT", 1] = frames["BT", 1].iloc[::-1]
    with pytest.raises(ValueError, match="BTT and BT were not asked about the same pairs"):
        judges.verdict_table(SCORES, frames, [0, 1, 2])


def test_an_answer_that_cannot_be_read_is_half_right():
    frames = frames_of({"BTT": 0.0})
    for seed in range(3):
        frames["BTT", seed].loc[::2, "margin"] = np.nan
    first = judges.accuracy_table(SCORES, frames, [0, 1, 2]).rows[0]
    assert [cell.value for cell in first[2:]] == pytest.approx([0.75] * 3, abs=0.05)


def test_comparisons_are_of_judges_that_compare():
    said = {"pairs": 40, "right": 0.525, "position_bias": None, "unclear": 0.0}
    compared = {("with reasons, HCR", 0): said, ("with reasons, HCR", 2): said | {"right": 0.75}}
    table = judges.comparison_table(judges.WORDS, compared, [0, 1, 2])
    assert table.rows == [["with reasons, HCR", 40, "52.5, 75.0", "-, -", "0.0, 0.0"]]


@pytest.mark.parametrize("name", judges.GROUPS)
def test_every_claim_is_about_judges_that_are_trained(name):
    group = judges.GROUPS[name]
    for _, one, other, dimension, _ in group.claims:
        assert {one, other} <= set(group.settings)
        assert dimension in (None, *judges.DIMENSIONS)
    assert set(group.ties) <= set(group.settings)
    for setting, changed in group.settings.items():
        config = named_config(group.config, changed)
        assert set(judges.DIMENSIONS) <= set(config.judge.dimensions), setting


def test_judges_of_mcsc_are_stages_of_their_config(tmp_path):
    group = judges.MCSC
    for name, changed in group.settings.items():
        last = open_recipe(named_config(group.config, changed), tmp_path).judge_stages[JUDGE]
        found = [stage.name for stage in in_order([last]) if stage.name.startswith("judge")]
        phases = [stage for stage in found if stage in ("judge-reasoning", "judge-hierarchy")]
        assert group.stages.get(name, last.name) in found
        assert ("judge-reasoning" in phases) == (name != "with reasons, HCR")
        assert last.name == "judge-hierarchy"
