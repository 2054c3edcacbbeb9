"""The tables of benchmarks/judged_generators.py, of scores whose truth is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from claimed import judged_generators as judged

from vidpref.config.by_name import named_config

GROUP = judged.SCORING
SEEDS = [0, 1, 2]
JUDGES = [("scores", "video_reward"), ("ipo", "vlm_judge"), ("mcsc", "vlm_judge")]
GAINS = {"the verifier": 0.2, "a judge": 0.1, "a judge, 30 % wrong": -0.1, judged.BEFORE: 0.0}


def frames():
    rng = np.random.default_rng(0)
    index = pd.DataFrame(
        {
            "prompt": np.repeat([f"prompt {i}" for i in range(40)], 4),
            "scene_id": np.repeat([str(i) for i in range(40)], 4),
            "sample": np.tile(range(4), 40),
        }
    )
    noise = {seed: rng.normal(0.5, 0.05, (160, 5)) for seed in SEEDS}
    columns = [*judged.SCORES, "object_motion", "accept"]
    return {
        (name, seed): index.assign(**dict(zip(columns, (noise[seed] + gain).T, strict=True)))
        for name, gain in GAINS.items()
        for seed in SEEDS
    }


def test_gains_are_clip_by_clip_and_verdicts_follow():
    right = {(name, seed): 0.6 for name in GROUP.settings for seed in SEEDS}
    right |= {("the verifier", seed): np.nan for seed in SEEDS}
    rows = {row[0]: row[1:] for row in judged.gain_table(GROUP, frames(), right, SEEDS).rows}
    assert rows["the verifier"][0] == ""
    assert rows["a judge"][0] == "60.0"
    assert [round(rows[name][2].value, 9) for name in GROUP.settings] == [0.2, 0.1, -0.1]
    said = [str(row[-1]) for row in judged.verdict_table(GROUP, frames(), SEEDS).rows]
    assert said == ["holds", "refuted", "holds", "holds"]


def test_every_round_is_a_row():
    group = dataclasses.replace(GROUP, settings={"a judge": ()}, rounds={"a judge": 2}, claims=())
    found = frames()
    found |= {("a judge, round 2", seed): found["the verifier", seed] for seed in SEEDS}
    right = {("a judge", seed): 0.6 for seed in SEEDS}
    rows = judged.gain_table(group, found, right, SEEDS).rows
    assert [row[0] for row in rows] == ["a judge", "a judge, round 2"]
    assert [round(row[3].value, 9) for row in rows] == [0.1, 0.2]


def test_other_clips_are_refused():
    found = frames()
    found["a judge", 1] = found["a judge", 1].assign(sample=9)
    with pytest.raises(ValueError, match="a judge and before have other clips, seed 1"):
        judged.verdict_table(GROUP, found, SEEDS)


@pytest.mark.parametrize(("group", "judge"), JUDGES)
def test_every_setting_is_a_config_with_a_judge_or_the_verifier(group, judge):
    found = judged.GROUPS[group]
    for i, (spec, *changed) in enumerate(found.settings.values()):
        assert named_config(spec, changed).reward.name == ("verifier" if i == 0 else judge)
    known = {
        judged.named(name, round_)
        for name in found.settings
        for round_ in range(1, found.rounds.get(name, 1) + 1)
    }
    for _, one, other in found.claims:
        assert {one, other} <= {*known, judged.BEFORE}
