"""The numbers of evaluation.json, by hand on small tables."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from report_examples import RATES, clip_table

from vidpref.evaluation.intervals import clustered_mean, clustered_rate
from vidpref.evaluation.statistics import (
    acceptance,
    best_of_n,
    evaluation_json,
    over_seeds,
    paired_difference,
)


def _table(accepts: dict[tuple[str, str], list[int]], split: str = "test") -> pd.DataFrame:
    """(policy, prompt) -> accept of samples 0, 1, ...; a prompt's first letter is its category."""
    return pd.DataFrame(
        [
            (policy, split, prompt[0], prompt, sample, accept)
            for (policy, prompt), values in accepts.items()
            for sample, accept in enumerate(values)
        ],
        columns=["policy", "split", "category", "prompt", "sample", "accept"],
    )


def test_acceptance_counts_clips_and_prompts_in_all_and_in_each_category():
    frame = _table({("dpo", "a1"): [1, 1], ("dpo", "a2"): [1, 0, 0, 0], ("dpo", "b1"): [0, 1]})
    result = acceptance(frame)
    assert (result["accept"], result["n"], result["prompts"]) == (0.5, 8, 3)
    a, b = result["categories"]["a"], result["categories"]["b"]
    assert (a["accept"], a["n"], a["prompts"]) == (0.5, 6, 2)
    assert (b["accept"], b["n"], b["prompts"]) == (0.5, 2, 1)
    expected = clustered_rate(
        np.array([1.0, 1, 1, 0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 1, 1, 2, 2])
    )
    assert result["ci"] == [expected.low, expected.high]
    # Category a has two prompts, t(1) = 12.7: nothing is known.
    np.testing.assert_allclose(a["ci"], [0.0, 1.0], atol=0.01)


def test_paired_difference_matches_prompt_and_sample_not_row_order():
    ours = {("dpo", "a1"): [1, 0, 1], ("dpo", "a2"): [1, 1, 1], ("dpo", "a3"): [0, 0, 1]}
    theirs = {("base", "a1"): [0, 0, 1], ("base", "a2"): [1, 0, 0], ("base", "a3"): [1, 0, 1]}
    frame = _table(ours | theirs).sample(frac=1, random_state=0)
    result = paired_difference(frame, "dpo", "base")
    d = np.array([1, 0, 0, 0, 1, 1, -1, 0, 0], np.float64)
    expected = clustered_mean(d, np.repeat(np.arange(3), 3), bounds=(-1.0, 1.0))
    np.testing.assert_allclose(result["diff"], 2 / 9)
    np.testing.assert_allclose(result["ci"], [expected.low, expected.high])
    opposite = paired_difference(frame, "base", "dpo")
    np.testing.assert_allclose(opposite["ci"], [-result["ci"][1], -result["ci"][0]])


def test_pairing_narrows_the_interval_of_policies_that_share_their_noise():
    frame = clip_table({"pretrained": 0.4, "dpo": 0.6})
    frame = frame[frame["split"] == "test"]
    low, high = paired_difference(frame, "dpo", "pretrained")["ci"]
    rates = [acceptance(rows)["ci"] for _, rows in frame.groupby("policy")]
    unpaired = np.sqrt(sum((hi - lo) ** 2 for lo, hi in rates))
    assert high - low < 0.8 * unpaired


def test_identical_policies_differ_by_nothing_but_not_for_certain():
    frame = clip_table({"a": 0.4, "b": 0.4})
    result = paired_difference(frame, "a", "b")
    assert result["diff"] == 0
    assert -0.1 < result["ci"][0] < 0 < result["ci"][1] < 0.1


def test_unmatched_clips_are_named():
    frame = _table({("dpo", "a1"): [1, 0], ("base", "a1"): [1], ("base", "a2"): [1]})
    with pytest.raises(ValueError, match=r"'dpo' lacks 1 clips.*a2"):
        paired_difference(frame, "dpo", "base")
    frame = _table({("dpo", "a1"): [1, 0], ("base", "a1"): [1]})
    with pytest.raises(ValueError, match=r"'base' lacks 1 clips.*'a1', 1\)"):
        paired_difference(frame, "dpo", "base")
    with pytest.raises(ValueError, match=r"'rwr'.*dpo, base"):
        paired_difference(frame, "rwr", "base")
    with pytest.raises(ValueError, match=r"two clips of .*a1"):
        paired_difference(pd.concat([frame, frame]), "dpo", "base")


def test_scenes_of_one_prompt_are_pairs_of_their_own():
    frame = _table({("dpo", "a1"): [1, 1], ("base", "a1"): [0, 1]})
    two = pd.concat([frame.assign(scene_id=0), frame.assign(scene_id=1)])
    assert paired_difference(two, "dpo", "base")["diff"] == 0.5


def test_best_of_n_is_the_mean_of_the_best_of_all_subsets():
    rng = np.random.default_rng(0)
    sizes = (7, 7, 5, 6)  # more clips than the 5 that are asked for
    scores = [rng.uniform(size=n) for n in sizes]
    frame = _table({("dpo", f"a{i}"): [1] * n for i, n in enumerate(sizes)})
    frame["score"] = np.concatenate(scores)
    result = best_of_n(frame.sample(frac=1, random_state=0), 2, 5, score="score")
    means = [
        np.mean([sorted(subset)[-2:] for subset in itertools.combinations(prompt, 5)])
        for prompt in scores
    ]
    expected = clustered_mean(np.array(means), np.arange(4), bounds=(0.0, 1.0))
    np.testing.assert_allclose([result["mean"], *result["ci"]], expected, rtol=1e-12)
    assert (result["best"], result["of"], result["prompts"]) == (2, 5, 4)


def test_best_of_n_says_what_does_not_fit():
    frame = _table({("dpo", "a1"): [1] * 4, ("dpo", "a2"): [1] * 3})
    with pytest.raises(ValueError, match=r"best of 4.*a2"):
        best_of_n(frame, 1, 4)
    with pytest.raises(ValueError, match="between 1 and 2"):
        best_of_n(frame, 3, 2)
    with pytest.raises(ValueError, match=r"'score' must lie in \[0, 1\].*a1"):
        best_of_n(frame.assign(score=7.0), 1, 2, score="score")
    graded = best_of_n(frame.assign(score=7.0), 1, 2, score="score", bounds=(0.0, 10.0))
    assert graded["mean"] == 7
    assert graded["ci"][0] < 7 < graded["ci"][1]


def test_over_seeds_pairs_within_a_seed_and_widens_the_interval():
    runs = []
    for seed, gain in enumerate((0.05, 0.2, 0.3)):
        run = clip_table({"pretrained": 0.4, "dpo": 0.4 + gain}, seed=seed)
        runs.append(run[run["split"] == "test"].assign(training_seed=seed))
    result = over_seeds(pd.concat(runs), "dpo", "pretrained")
    single = [paired_difference(run, "dpo", "pretrained") for run in runs]
    assert result["seeds"] == {str(i): s for i, s in enumerate(single)}
    np.testing.assert_allclose(result["diff"], np.mean([s["diff"] for s in single]))
    assert result["over"] == "seeds and prompts"
    width = np.ptp(result["ci"])
    assert width > 2 * max(np.ptp(s["ci"]) for s in single)
    alone = over_seeds(runs[0], "dpo", "pretrained")
    assert alone["over"] == "prompts"
    assert alone["ci"] == single[0]["ci"]
    with pytest.raises(ValueError, match="training_seed"):
        over_seeds(runs[0].drop(columns="training_seed"), "dpo", "pretrained")


def test_evaluation_json_has_the_agreed_form():
    frame = clip_table(RATES, prompts=10).sample(frac=1, random_state=0)
    result = json.loads(json.dumps(evaluation_json(frame, best_of=(1, 4)), allow_nan=False))
    assert set(result) == {"baseline", "policies", "paired", "best_of_n"}
    assert next(iter(result["policies"])) == "pretrained"
    assert set(result["policies"]) == set(RATES)
    assert set(result["paired"]) == set(RATES) - {"pretrained"}
    for splits in result["policies"].values():
        assert set(splits) == {"train", "test"}
        for entry in splits.values():
            assert set(entry) == {"accept", "ci", "n", "prompts", "categories"}
            assert (entry["n"], entry["prompts"], len(entry["ci"])) == (40, 10, 2)
            assert sum(c["n"] for c in entry["categories"].values()) == 40
    for splits in result["paired"].values():
        assert all(set(entry) == {"diff", "ci"} for entry in splits.values())
    before, after = (result["policies"][p]["test"]["accept"] for p in ("pretrained", "rwr"))
    np.testing.assert_allclose(result["paired"]["rwr"]["test"]["diff"], after - before)
    assert "best_of_n" not in evaluation_json(frame, best_of=None)


def test_evaluation_json_pools_seeds():
    runs = [clip_table(RATES, prompts=10, seed=s).assign(training_seed=s) for s in range(3)]
    result = evaluation_json(pd.concat(runs), best_of=(1, 4))
    entry = result["policies"]["dpo"]["test"]
    assert (entry["n"], entry["prompts"]) == (120, 10)
    assert result["paired"]["dpo"]["test"]["over"] == "seeds and prompts"
    assert list(result["paired"]["dpo"]["test"]["seeds"]) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns=["sample", "split"]), "lacks the columns split, sample"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.assign(accept=[np.nan, *f["accept"][1:]]), "1 clips have no 'accept'"),
        (lambda f: f.assign(accept=f["accept"] * 2 + 1), r"must lie in \[0, 1\]"),
        (lambda f: f.assign(policy="dpo"), "no clips of the baseline 'pretrained'"),
    ],
)
def test_bad_tables_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        evaluation_json(change(clip_table(RATES, prompts=5)), best_of=(1, 4))
