import numpy as np
import pandas as pd
import pytest

from vidpref.datasets.pairs import PairReport, accepted_rejected, best_worst


def table(**prompts):
    rows = [(p, f"{p}/{i}", r) for p, rewards in prompts.items() for i, r in enumerate(rewards)]
    return pd.DataFrame(rows, columns=["prompt_id", "clip_id", "reward"])


MIXED = table(
    a=[0.0, 1.0, 1.0, 0.0],
    good=[1.0, 1.0],
    bad=[0.0, 0.0, 0.0],
    single=[1.0],
    z=[1.0, 0.0],
)


def test_best_against_worst():
    labels = table(a=[0.2, 0.9, -0.4, 0.5], tied=[0.3, 0.3], b=[7, 7, 2, 2])
    pairs, report = best_worst(labels)
    assert pairs.to_dict("records") == [
        {
            "prompt_id": "a",
            "winner": "a/1",
            "loser": "a/2",
            "reward_winner": 0.9,
            "reward_loser": -0.4,
        },
        {"prompt_id": "b", "winner": "b/0", "loser": "b/2", "reward_winner": 7, "reward_loser": 2},
    ]
    assert report == PairReport(3, 2, too_few=0, all_accepted=0, all_rejected=0, equal_scores=1)


@pytest.mark.parametrize("pair", [best_worst, lambda t: accepted_rejected(t, 100, seed=0)])
def test_prompts_without_pairs_are_counted_by_reason(pair):
    pairs, report = pair(MIXED)
    assert set(pairs["prompt_id"]) == {"a", "z"}
    assert (report.prompts, report.pairs) == (5, len(pairs))
    assert (report.too_few, report.all_accepted, report.all_rejected) == (1, 1, 1)
    assert report.equal_scores == 0


def test_accepted_times_rejected():
    pairs, _ = accepted_rejected(MIXED, 100, seed=0)
    got = set(zip(pairs["winner"], pairs["loser"], strict=True))
    assert got == {
        ("a/1", "a/0"), ("a/1", "a/3"), ("a/2", "a/0"), ("a/2", "a/3"), ("z/0", "z/1"),
    }  # fmt: skip
    assert (pairs["reward_winner"] == 1).all()
    assert (pairs["reward_loser"] == 0).all()


def test_limit_draws_without_repetition_and_evenly():
    labels = table(**{f"p{i:03}": [1, 1, 1, 0, 0, 0] for i in range(200)})
    pairs, report = accepted_rejected(labels, 4, seed=3)
    assert report.pairs == 800
    assert (pairs.groupby("prompt_id").size() == 4).all()
    assert not pairs.duplicated(["winner", "loser"]).any()
    combinations = pairs["winner"].str[-1] + pairs["loser"].str[-1]
    counts = combinations.value_counts()
    assert len(counts) == 9
    # 800 / 9 = 89 each; without replacement the standard deviation is 7.
    np.testing.assert_allclose(counts, 89, atol=35)


@pytest.mark.parametrize("pair", [best_worst, lambda t: accepted_rejected(t, 2, seed=1)])
def test_order_of_rows_does_not_matter(pair):
    shuffled = MIXED.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(pair(MIXED)[0], pair(shuffled)[0])


def test_draw_depends_on_the_seed_and_on_the_prompt_alone():
    labels = table(a=[1] * 8 + [0] * 8, b=[1] * 8 + [0] * 8)
    alone = labels[labels["prompt_id"] == "b"]
    together, _ = accepted_rejected(labels, 5, seed=1)
    by_itself, _ = accepted_rejected(alone, 5, seed=1)
    assert together[together["prompt_id"] == "b"].values.tolist() == by_itself.values.tolist()
    other, _ = accepted_rejected(alone, 5, seed=2)
    assert other.values.tolist() != by_itself.values.tolist()


def test_nothing_to_pair_is_an_empty_frame_with_its_columns():
    pairs, report = best_worst(table(good=[1, 1]))
    assert pairs.empty
    assert list(pairs) == ["prompt_id", "winner", "loser", "reward_winner", "reward_loser"]
    assert report.all_accepted == report.prompts == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (table(a=[1, 0]).rename(columns={"reward": "score"}), "no column reward; they have"),
        (table(a=[1, np.nan]), "1 clips have no finite reward, the first is 'a/1'"),
        (table(a=[1, 0]).assign(clip_id="x"), "occur twice, the first is 'x'"),
        (table(a=[1, 0]).assign(prompt_id=[None, "a"]), "1 clips have no prompt"),
        (table(a=[1, 0.5]), "1 rewards are neither 0 nor 1 .*'a/1'.*best_worst"),
    ],
)
def test_bad_labels_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        accepted_rejected(labels, 1, seed=0)


def test_limit_must_be_positive():
    with pytest.raises(ValueError, match="max_pairs_per_prompt=0"):
        accepted_rejected(MIXED, 0, seed=0)
