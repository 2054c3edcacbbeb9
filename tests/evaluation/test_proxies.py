"""A judge against the truth: means, gains and correlations of clips whose scores are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vidpref.evaluation.proxies import proxy_json, proxy_table

PROMPTS, SAMPLES = 30, 2


def frames():
    """What the judge and the truth say of clips of two policies, and of two splits."""
    rng = np.random.default_rng(0)
    rows = [
        {"policy": policy, "split": split, "category": "DM", "prompt": f"{split} {i}"}
        | {"scene_id": f"{split}-{i}", "sample": sample, "accept": 0.0}
        for policy in ("pretrained", "dpo")
        for split in ("train", "test")
        for i in range(PROMPTS)
        for sample in range(SAMPLES)
    ]
    index = pd.DataFrame(rows)
    truth = index.assign(motion=rng.uniform(0.2, 0.6, len(index)), colour=0.5, shape=0.25)
    judge = index.assign(
        motion=10 * truth["motion"] - 4 + rng.normal(size=len(index)),
        colour=rng.normal(size=len(index)),
        smell=1.0,
    )
    # the trained policy has learnt to please the judge
    judge.loc[judge["policy"] == "dpo", "motion"] += 3.0
    judge["overall"] = judge[["motion", "colour"]].mean(axis=1)
    return judge, truth


def test_the_judge_gains_and_the_truth_does_not():
    judge, truth = frames()
    found = proxy_json(judge, truth, "pretrained")
    assert list(found) == ["test", "train"]
    assert list(found["test"]) == ["motion", "colour", "overall"]
    for split in found:
        first, last = found[split]["motion"].values()
        sides = {"judge": judge, "truth": truth}
        for name, side in sides.items():
            values = side[side["split"] == split].groupby("policy")["motion"].mean()
            assert first[name]["mean"] == pytest.approx(values["pretrained"])
            assert last[f"{name}_gain"]["diff"] == pytest.approx(
                values["dpo"] - values["pretrained"]
            )
            assert f"{name}_gain" not in first
        assert last["judge_gain"]["ci"][0] > 2
        assert last["truth_gain"]["ci"][0] < 0 < last["truth_gain"]["ci"][1]
        own = [s[(s["split"] == split) & (s["policy"] == "dpo")]["motion"] for s in (judge, truth)]
        assert last["pearson"] == pytest.approx(np.corrcoef(*own)[0, 1])
        assert last["spearman"] == pytest.approx(stats.spearmanr(*own).statistic)
        # two clips a prompt: what they have above their mean is half of how they differ
        halves = [np.diff(side.to_numpy().reshape(PROMPTS, SAMPLES))[:, 0] / 2 for side in own]
        halves = [np.concatenate([-half, half]) for half in halves]
        assert last["pearson_within"] == pytest.approx(np.corrcoef(*halves)[0, 1])
        assert last["spearman_within"] == pytest.approx(stats.spearmanr(*halves).statistic)
        # the interval over prompts is that of the t test of their means
        cells = judge[judge["split"] == split].pivot_table("motion", "prompt", "policy")
        gap = cells["dpo"] - cells["pretrained"]
        low, high = stats.t.interval(0.95, PROMPTS - 1, gap.mean(), stats.sem(gap))
        found_low, found_high = last["judge_gain"]["ci"]
        assert found_low <= low  # one trial more than there was
        assert found_high >= high
        assert found_high - found_low < 2 * (high - low)


def test_overall_stands_against_the_mean_of_what_both_score():
    judge, truth = frames()
    entry = proxy_json(judge, truth, "pretrained")["test"]["overall"]["pretrained"]
    own = truth[(truth["split"] == "test") & (truth["policy"] == "pretrained")]
    assert entry["truth"]["mean"] == pytest.approx((own["motion"].mean() + 0.5) / 2)


def test_what_is_alike_has_no_correlation():
    judge, truth = frames()
    entry = proxy_json(judge, truth, "pretrained")["test"]["colour"]["dpo"]
    assert entry["pearson"] is None
    assert entry["spearman"] is None
    assert entry["pearson_within"] is None
    found = proxy_json(judge, truth, "pretrained")
    table = proxy_table(found)
    assert len(table.rows) == 2 * 3 * 2
    line = next(row for row in table.rows if row[:3] == ["held-out", "Motion", "DPO"])
    entry = found["test"]["motion"]["dpo"]
    assert str(line[4]).startswith(f"{entry['judge_gain']['diff']:+.2f} [+")
    assert str(line[6]).startswith(f"{100 * entry['truth_gain']['diff']:+.1f} [")
    assert "–" in table.to_markdown()
    assert table.columns[-2:] == ["Correlation", "Within prompts"]
    assert line[-2:] == [entry["pearson"], entry["pearson_within"]]
    assert [str(r) for r in line[-2:]] == [f"{r:.2f}" for r in line[-2:]]


def test_prompts_that_please_the_judge_hide_what_pairs_see():
    judge, truth = frames()
    easy = judge.groupby("prompt").ngroup() % 7
    truth["motion"] = 0.05 * easy + 0.1 * truth["motion"]
    judge["motion"] = -easy + 40 * truth["motion"].groupby(judge["prompt"]).transform(
        lambda scores: scores - scores.mean()
    )
    entry = proxy_json(judge, truth, "pretrained")["test"]["motion"]["dpo"]
    assert entry["pearson"] < 0
    assert entry["pearson_within"] > 0.9


def test_a_judge_of_something_else_stands_against_acceptance():
    judge, truth = frames()
    smell = judge.drop(columns=["motion", "colour", "overall"])
    smell["smell"] = np.arange(len(smell)) % 3.0
    truth["accept"] = (smell["smell"] > 0).astype(float)
    found = proxy_json(smell, truth, "pretrained")["test"]
    assert list(found) == ["smell"]
    own = smell[(smell["split"] == "test") & (smell["policy"] == "dpo")]["smell"]
    assert found["smell"]["dpo"]["truth"]["mean"] == pytest.approx((own > 0).mean())
    assert found["smell"]["dpo"]["pearson"] == pytest.approx(np.corrcoef(own, own > 0)[0, 1])


def test_a_judge_that_accepts_and_no_more_stands_against_acceptance():
    judge, truth = frames()
    verdicts = judge[list(judge.columns[:7])].assign(accept=np.arange(len(judge)) % 2.0)
    truth["accept"] = np.arange(len(judge)) % 3 / 2
    found = proxy_json(verdicts, truth, "pretrained")["test"]
    assert list(found) == ["accept"]
    own = [s[(s["split"] == "test") & (s["policy"] == "dpo")]["accept"] for s in (verdicts, truth)]
    assert found["accept"]["dpo"]["truth"]["mean"] == pytest.approx(own[1].mean())
    assert found["accept"]["dpo"]["pearson"] == pytest.approx(np.corrcoef(*own)[0, 1])


def test_other_clips_and_no_dimensions_are_refused():
    judge, truth = frames()
    with pytest.raises(ValueError, match="did not score the same clips"):
        proxy_json(judge, truth[::-1].reset_index(drop=True), "pretrained")
    named = ["policy", "split", "category", "prompt", "scene_id", "sample"]
    with pytest.raises(ValueError, match="the judge scores nothing that the truth could"):
        proxy_json(judge[named], truth, "pretrained")
