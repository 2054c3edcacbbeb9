"""Methods against each other: intervals from scipy and by hand, and a mirror-like matrix."""

import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from report_examples import RATES, clip_table
from scipy import stats

from vidpref.evaluation.differences import (
    between_methods,
    difference_matrices,
    differences_table,
)
from vidpref.evaluation.statistics import evaluation_json
from vidpref.evaluation.tables import Estimate


@pytest.fixture(scope="module")
def frame():
    table = clip_table(RATES, prompts=20)
    return table.assign(motion_quality=np.random.default_rng(0).uniform(size=len(table)))


@pytest.fixture(scope="module")
def found(frame):
    return json.loads(json.dumps(between_methods(frame), allow_nan=False))


def _values(frame, policy, split, score):
    """[prompts, samples]"""
    rows = frame[(frame["policy"] == policy) & (frame["split"] == split)]
    return rows.pivot(index="prompt", columns="sample", values=score).to_numpy()


@pytest.mark.parametrize("score", ["accept", "motion_quality"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_intervals_are_scipys_paired_t_test_of_prompts(frame, found, split, score):
    # with as many clips of every prompt, the clustered interval is that of the prompts' means
    matrix = found["1"][split][score]
    for one, other in itertools.permutations(("sft", "rwr", "dpo"), 2):
        means = [_values(frame, name, split, score).mean(1) for name in (one, other)]
        expected = stats.ttest_rel(*means).confidence_interval(0.95)
        # and one clip of the 80 that lies off by 1
        error = np.hypot(stats.sem(np.subtract(*means)), 1 / 80)
        half = stats.t.ppf(0.975, 19) * error
        entry = matrix[one][other]
        middle = np.subtract(*means).mean()
        np.testing.assert_allclose(entry["diff"], middle, atol=1e-12)
        np.testing.assert_allclose(entry["ci"], [middle - half, middle + half], atol=1e-12)
        np.testing.assert_allclose(entry["ci"], [expected.low, expected.high], atol=0.01)


def test_over_seeds_by_hand():
    runs = [clip_table(RATES, prompts=8, seed=s).assign(training_seed=s) for s in range(3)]
    frame = pd.concat(runs)
    entry = between_methods(frame)["1"]["test"]["accept"]["rwr"]["dpo"]
    differences = np.stack(
        [_values(r, "rwr", "test", "accept") - _values(r, "dpo", "test", "accept") for r in runs]
    )  # [seeds, prompts, samples]
    cells = differences.mean(2)
    of_seeds = 8 * cells.mean(1).var(ddof=1)
    of_prompts = 3 * cells.mean(0).var(ddof=1)
    rest = cells - cells.mean(0) - cells.mean(1)[:, None] + cells.mean()
    squares = np.array([of_seeds, of_prompts, (rest**2).sum() / (2 * 7)]) / (3 * 8)
    squares[1] += (1 / (8 * 4)) ** 2  # one clip of each seed that lies off by 1
    variance = squares[1] + max(squares[0] - squares[2], 0)
    freedom = max(variance**2 / (squares**2 / [2, 7, 14]).sum(), 2)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    middle = differences.mean()
    expected = [max(-1, middle - half), min(1, middle + half)]
    np.testing.assert_allclose([entry["diff"], *entry["ci"]], [middle, *expected], atol=1e-12)


def test_the_matrix_is_its_own_mirror(frame, found):
    for splits in found.values():
        for scores in splits.values():
            for matrix in scores.values():
                for one, other in itertools.combinations(matrix, 2):
                    entry, mirrored = matrix[one][other], matrix[other][one]
                    assert entry["diff"] == -mirrored["diff"]
                    assert entry["ci"] == [-mirrored["ci"][1], -mirrored["ci"][0]]
                    if "win_rate" in entry:
                        assert entry["win_rate"] + mirrored["win_rate"] == pytest.approx(1)
                        turned = [1 - x for x in mirrored["win_ci"][::-1]]
                        assert entry["win_ci"] == pytest.approx(turned)
                assert all(name not in row for name, row in matrix.items())
    assert found.keys() == {"1"}  # one method alone has a second round
    same = clip_table({"pretrained": 0.4, "a": 0.5, "b": 0.5}, prompts=5)
    nothing = between_methods(same)["1"]["test"]["accept"]["b"]["a"]["diff"]
    assert str(nothing) == "0.0"  # not -0.0


def test_a_difference_is_that_of_the_differences_from_the_pretrained(frame, found):
    evaluation = evaluation_json(frame, best_of=None)
    for one, other in itertools.permutations(("sft", "rwr", "dpo"), 2):
        to_start = [evaluation["paired"][name]["test"]["diff"] for name in (one, other)]
        entry = found["1"]["test"]["accept"][one][other]
        assert entry["diff"] == pytest.approx(to_start[0] - to_start[1])


def test_tables_of_the_last_round(frame):
    rates = {"pretrained": 0.4, "sft": 0.5, "dpo": 0.6, "sft_round2": 0.5, "dpo_round2": 0.8}
    frame = clip_table(rates, prompts=10)
    evaluation = evaluation_json(frame, best_of=None)
    evaluation["between_methods"] = between_methods(frame)
    held_out, training = difference_matrices(evaluation)
    assert held_out.title == "Method minus method, accepted clips, held-out prompts, round 2"
    assert "training prompts" in training.title
    assert list(held_out.columns) == ["Method", "SFT", "DPO"]
    entry = evaluation["between_methods"]["2"]["test"]["accept"]["dpo"]["sft"]
    assert held_out.rows[1] == ["DPO", Estimate(entry["diff"], *entry["ci"], signed=True), None]
    assert "over prompts" in held_out.caption
    assert difference_matrices(evaluation, ["test"]) == [held_out]
    read = pd.read_csv(io.StringIO(differences_table(evaluation).to_csv()))
    assert len(read) == 2 * 2 * 2  # rounds, splits, ordered pairs
    row = read[(read["round"] == 2) & (read["split"] == "test") & (read["method"] == "dpo")].iloc[0]
    assert row[["difference", "difference low", "difference high"]].tolist() == [
        entry["diff"],
        *entry["ci"],
    ]


def test_one_method_has_no_other():
    frame = clip_table({"pretrained": 0.4, "dpo": 0.6, "dpo_round2": 0.6}, prompts=5)
    assert between_methods(frame) == {}
    evaluation = evaluation_json(frame, best_of=None) | {"between_methods": {}}
    assert difference_matrices(evaluation) == []
    assert differences_table(evaluation).rows == []


def test_clips_that_do_not_match_are_named():
    frame = clip_table({"pretrained": 0.4, "sft": 0.5, "dpo": 0.6}, prompts=3)
    frame = frame[~((frame["policy"] == "sft") & (frame["prompt"] == "test 1"))]
    with pytest.raises(ValueError, match=r"'sft' lacks 4 clips.*test 1"):
        between_methods(frame)
