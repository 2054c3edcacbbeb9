"""The judge's further dimensions: means, paired differences, win rates and their tables."""

import json

import numpy as np
import pandas as pd
import pytest
from report_examples import clip_table

from vidpref.evaluation.intervals import clustered_mean, clustered_rate
from vidpref.evaluation.statistics import (
    dimension_scores,
    dimensions_of,
    evaluation_json,
    paired_dimensions,
)
from vidpref.evaluation.tables import Estimate, dimension_tables

BASE = [[0.2, 0.4, 0.6], [0.5, 0.5, 0.5]]  # two prompts of three clips
DPO = [[0.3, 0.4, 0.5], [0.9, 0.5, 0.7]]


def frame_of(scores, **more):
    """{policy: [[score of each sample] of each prompt]} as one row a clip."""
    rows = [
        (policy, "test", "OR", f"p{i}", sample, 1.0, score)
        for policy, prompts in scores.items()
        for i, samples in enumerate(prompts)
        for sample, score in enumerate(samples)
    ]
    columns = ["policy", "split", "category", "prompt", "sample", "accept", "motion_quality"]
    return pd.DataFrame(rows, columns=columns).assign(**more)


def interval(values, bounds=(0.0, 1.0), seeds=None):
    values = np.asarray(values, np.float64)
    prompts = np.broadcast_to(np.arange(2)[:, None], values.shape).ravel()
    found = clustered_mean(values.ravel(), prompts, seeds, bounds=bounds)
    return [found.low, found.high]


def test_other_columns_are_dimensions():
    frame = frame_of({"a": BASE}, scene_id="s", training_seed=0, speed=0.1)
    assert dimensions_of(frame) == ["motion_quality", "speed"]
    assert dimensions_of(clip_table({"a": 0.5}, prompts=2)) == []


def test_scores_are_clustered_means():
    found = dimension_scores(frame_of({"dpo": DPO}))
    assert found.keys() == {"motion_quality"}
    np.testing.assert_allclose(found["motion_quality"]["mean"], np.mean(DPO))
    np.testing.assert_allclose(found["motion_quality"]["ci"], interval(DPO))


def test_scores_beyond_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match=r"'motion_quality' must lie in \[0, 1\].*p1"):
        dimension_scores(frame_of({"dpo": [[0.1], [1.2]]}))


def test_paired_by_prompt_and_noise_with_ties_as_half_a_win():
    frame = frame_of({"pretrained": BASE, "dpo": DPO}).sample(frac=1, random_state=0)
    found = paired_dimensions(frame, "dpo", "pretrained")["motion_quality"]
    difference = np.subtract(DPO, BASE)
    np.testing.assert_allclose(found["diff"], difference.mean())
    np.testing.assert_allclose(found["ci"], interval(difference, (-1.0, 1.0)))
    assert found["win_rate"] == pytest.approx((3 + 2 * 0.5) / 6)  # won 3, tied 2, lost 1
    won = np.array([1.0, 0.5, 0.0, 1.0, 0.5, 1.0])
    expected = clustered_rate(won, np.repeat([0, 1], 3))
    np.testing.assert_allclose(found["win_ci"], [expected.low, expected.high])
    opposite = paired_dimensions(frame, "pretrained", "dpo")["motion_quality"]
    assert opposite["win_rate"] == pytest.approx(1 - found["win_rate"])
    same = paired_dimensions(frame_of({"a": BASE, "b": BASE}), "a", "b")["motion_quality"]
    assert (same["diff"], same["win_rate"]) == (0.0, 0.5)


def test_less_than_half_a_point_is_a_tie():
    above = frame_of({"a": BASE, "b": np.add(BASE, 0.004)})
    assert paired_dimensions(above, "b", "a")["motion_quality"]["win_rate"] == 0.5
    above = frame_of({"a": BASE, "b": np.add(BASE, 0.006)})
    assert paired_dimensions(above, "b", "a")["motion_quality"]["win_rate"] == 1.0


def test_paired_over_seeds_pairs_within_a_seed():
    gains = (0.1, 0.2, 0.3)
    runs = [
        frame_of({"pretrained": BASE, "dpo": np.add(BASE, gain)}, training_seed=seed)
        for seed, gain in enumerate(gains)
    ]
    found = paired_dimensions(pd.concat(runs), "dpo", "pretrained")["motion_quality"]
    np.testing.assert_allclose(found["diff"], 0.2)
    difference = np.broadcast_to(np.array(gains)[:, None, None], (3, 2, 3))
    prompts = np.broadcast_to(np.arange(2)[:, None], (3, 2, 3)).ravel()
    seeds = np.repeat(np.arange(3), 6)
    expected = clustered_mean(difference.ravel(), prompts, seeds, bounds=(-1.0, 1.0))
    np.testing.assert_allclose(found["ci"], [expected.low, expected.high], atol=1e-9)
    pooled = clustered_mean(difference.ravel(), prompts, bounds=(-1.0, 1.0))
    assert np.ptp(found["ci"]) > 1.05 * (pooled.high - pooled.low)  # the seeds differ
    assert found["win_rate"] == 1.0


@pytest.fixture(scope="module")
def evaluation():
    frame = frame_of({"pretrained": BASE, "dpo": DPO}, speed=0.25)
    frame = pd.concat([frame, frame.assign(split="train", speed=0.5)])
    frame.loc[(frame["policy"] == "dpo") & (frame["split"] == "train"), "accept"] = 0.0
    return json.loads(json.dumps(evaluation_json(frame, best_of=None), allow_nan=False))


def test_evaluation_json_has_them_for_every_policy_and_split(evaluation):
    found = evaluation["dimensions"]
    assert {(p, s) for p, splits in found["policies"].items() for s in splits} == {
        (policy, split) for policy in ("pretrained", "dpo") for split in ("test", "train")
    }
    assert found["policies"]["dpo"]["train"]["speed"]["mean"] == 0.5
    assert found["paired"].keys() == {"dpo"}
    assert found["paired"]["dpo"]["test"]["motion_quality"].keys() == {
        *("diff", "ci", "win_rate", "win_ci")
    }


def test_tables_of_policies_against_dimensions(evaluation):
    held_out, training = dimension_tables(evaluation)
    assert held_out.title == "Dimensions, held-out prompts"
    assert training.title == "Dimensions, training prompts"
    assert list(held_out.columns) == ["Policy", "Accepted", "Motion quality", "Speed"]
    (base, *of_base), (dpo, *of_dpo) = training.rows
    assert (base, dpo) == ("pretrained", "DPO")
    found = evaluation["dimensions"]
    score = found["policies"]["pretrained"]["train"]["speed"]
    assert of_base[0].value == 1.0
    assert of_base[2] == Estimate(0.5, *score["ci"])
    assert of_dpo[0].value == -1.0
    assert of_dpo[0].signed
    paired = found["paired"]["dpo"]["train"]["motion_quality"]
    assert of_dpo[1] == Estimate(paired["diff"], *paired["ci"], signed=True)
    assert "over prompts" in held_out.caption
    assert "| DPO | +0.0" in held_out.to_markdown()


def test_without_dimensions_there_is_no_key_and_no_table():
    frame = frame_of({"pretrained": BASE, "dpo": DPO}).drop(columns="motion_quality")
    evaluation = evaluation_json(frame, best_of=None)
    assert "dimensions" not in evaluation
    assert dimension_tables(evaluation) == []
