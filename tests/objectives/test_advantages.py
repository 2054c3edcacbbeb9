"""Advantages against TRL's formulas in torch, closed forms, and rewards that failed."""

import math

import numpy as np
import pytest
import torch

from vidpref.objectives.policy_gradient import AdvantageRule, group_advantages

NAN = float("nan")
ACCURACY = np.array([[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, NAN, 1]], np.float32)
SCORE = np.array([[30, 10, 20, -7], [1, 5, 2, 3], [4, 4, NAN, 4]], np.float32)
WEIGHTS = {"accuracy": 1.0, "score": 0.5}


def in_torch(scale):
    """TRL 1.16's sum_then_normalize, where rewards fail for the same answers, in float64."""
    total = torch.tensor(ACCURACY + 0.5 * SCORE, dtype=torch.float64)

    def nanstd(x, dim):
        mean = x.nanmean(dim, keepdim=True)
        count = (~x.isnan()).sum(dim, keepdim=True)
        return ((x - mean).square().nansum(dim, keepdim=True) / (count - 1)).sqrt()

    advantages = total - total.nanmean(1, keepdim=True)
    if scale == "group":
        advantages = advantages / (nanstd(total, 1) + 1e-4)
    elif scale == "batch":
        advantages = advantages / (nanstd(total.flatten(), 0) + 1e-4)
    return advantages.nan_to_num(0.0).numpy()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_added_rewards_are_normalised_as_by_trl(scale):
    rewards = {"accuracy": ACCURACY, "score": SCORE}
    got, metrics = group_advantages(rewards, WEIGHTS, AdvantageRule(4, scale))
    np.testing.assert_allclose(got, in_torch(scale), rtol=1e-5, atol=1e-6)
    assert got[2, 2] == 0
    np.testing.assert_allclose(metrics["unscored"], 1 / 12)
    known = np.delete(np.asarray(got).ravel(), 10)
    np.testing.assert_allclose(metrics["advantage_std"], known.std(), rtol=1e-5)


def test_rewards_normalised_apart_have_equal_say_whatever_their_scale():
    rewards = {"accuracy": ACCURACY, "score": SCORE}
    rule = AdvantageRule(4, order="normalise_then_sum")
    got, metrics = group_advantages(rewards, WEIGHTS, rule)

    def apart(x):
        mean, std = np.nanmean(x, 1, keepdims=True), np.nanstd(x, 1, keepdims=True, ddof=1)
        return np.nan_to_num((x - mean) / (std + 1e-4))

    np.testing.assert_allclose(got, apart(ACCURACY) + 0.5 * apart(SCORE), rtol=1e-5, atol=1e-6)
    scaled, _ = group_advantages({**rewards, "score": 100 * SCORE}, WEIGHTS, rule)
    np.testing.assert_allclose(scaled, got, rtol=1e-3)
    added, _ = group_advantages(rewards, WEIGHTS, AdvantageRule(4))
    drowned, _ = group_advantages({**rewards, "score": 100 * SCORE}, WEIGHTS, AdvantageRule(4))
    assert np.abs(drowned - added).max() > 0.05
    expected = {
        "reward/accuracy": 7 / 11,
        "reward/score": 76 / 11,
        "reward_std/accuracy": (np.sqrt(1 / 3) * 2) / 3,
        "zero_spread/accuracy": 1 / 3,
        "zero_spread/score": 1 / 3,
        "failed/accuracy": 1 / 12,
        "zero_spread_groups": 0,
        "unscored": 1 / 12,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_a_reward_that_failed_for_some_answers_is_no_bad_mark():
    failed = SCORE.copy()
    failed[0, 1] = np.inf
    rewards = {"accuracy": ACCURACY, "score": failed}
    added, metrics = group_advantages(rewards, WEIGHTS, AdvantageRule(4, "none"))
    total = ACCURACY[0] + 0.5 * SCORE[0]
    mean = total[[0, 2, 3]].mean()
    np.testing.assert_allclose(added[0], [total[0] - mean, 0, *(total[2:] - mean)], rtol=1e-5)
    np.testing.assert_allclose(metrics["failed/score"], 2 / 12)
    np.testing.assert_allclose(metrics["unscored"], 2 / 12)
    rule = AdvantageRule(4, "none", "normalise_then_sum")
    apart, metrics = group_advantages(rewards, WEIGHTS, rule)
    np.testing.assert_allclose(apart[0, 1], 0 - 0.5, rtol=1e-6)  # by its accuracy alone
    np.testing.assert_allclose(metrics["unscored"], 1 / 12)
    # one that is only measured fails for nobody
    only, metrics = group_advantages(rewards, {"accuracy": 1.0, "score": 0.0}, AdvantageRule(4))
    assert only[0, 1] < 0
    np.testing.assert_allclose(metrics["failed/score"], 2 / 12)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("order", ["sum_then_normalise", "normalise_then_sum"])
def test_equal_rewards_teach_nothing(scale, order):
    # six times 0.9 in float32 has a mean that is not 0.9
    equal = np.full((3, 6), 0.9, np.float32)
    equal[1], equal[1, 3] = 1e6 + 0.3, NAN
    assert equal[0].sum() / np.float32(6) != equal[0, 0]
    got, metrics = group_advantages({"r": equal}, {"r": 1.0}, AdvantageRule(6, scale, order))
    assert (np.asarray(got) == 0).all()
    assert metrics["zero_spread_groups"] == metrics["zero_spread/r"] == 1
    assert metrics["advantage_std"] == metrics["reward_std/r"] == 0
    # beside a group that differs
    equal[2] = np.arange(6)
    got, metrics = group_advantages({"r": equal}, {"r": 1.0}, AdvantageRule(6, scale, order))
    assert (np.asarray(got[:2]) == 0).all()
    assert (np.asarray(got[2]) != 0).all()
    np.testing.assert_allclose(metrics["zero_spread_groups"], 2 / 3)


def test_no_reward_at_all_is_counted():
    nothing = np.full((3, 4), NAN, np.float32)
    got, metrics = group_advantages({"r": nothing}, {"r": 1.0}, AdvantageRule(4, "batch"))
    assert (np.asarray(got) == 0).all()
    assert metrics["unscored"] == metrics["zero_spread_groups"] == metrics["failed/r"] == 1
    assert metrics["reward/r"] == metrics["advantage_std"] == 0


@pytest.mark.parametrize("scale", ["group", "batch"])
def test_padding_prompts_change_nothing(scale):
    rule = AdvantageRule(4, scale, largest=1.1)
    got, metrics = group_advantages({"r": SCORE}, {"r": 1.0}, rule)
    padded = np.vstack([SCORE, [[1e3, 0, 0, 0]]]).astype(np.float32)
    weight = np.array([1, 1, 1, 0], np.float32)
    again, of_padded = group_advantages({"r": padded}, {"r": 1.0}, rule, weight)
    np.testing.assert_array_equal(again[:3], got)
    assert (np.asarray(again[3]) == 0).all()
    assert np.abs(got).max() == np.float32(1.1)
    for name, value in metrics.items():
        np.testing.assert_allclose(of_padded[name], value, rtol=1e-6, err_msg=name)


def test_groups_and_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="group=1: an answer is compared with others"):
        AdvantageRule(1)
    with pytest.raises(ValueError, match="scale='groups' is unknown; did you mean group"):
        AdvantageRule(4, "groups")
    with pytest.raises(ValueError, match="order='normalise' is unknown; did you mean"):
        AdvantageRule(4, order="normalise")
    with pytest.raises(ValueError, match=r"largest=0\.0: must be above 0"):
        AdvantageRule(4, largest=0.0)
    assert AdvantageRule(8).prompts(32) == 4
    for answers, message in ((20, "take 16 or 24"), (4, "take 8 or 16"), (0, "0 answers")):
        with pytest.raises(ValueError, match=message):
            AdvantageRule(8).prompts(answers)

    def run(rewards=None, weights=None, group=4):
        rewards = {"accuracy": ACCURACY, "score": SCORE} if rewards is None else rewards
        return group_advantages(rewards, weights or WEIGHTS, AdvantageRule(group))

    with pytest.raises(ValueError, match="'score' has no weight; known: accuracy"):
        run(weights={"accuracy": 1.0})
    with pytest.raises(ValueError, match="the reward 'scores', which nobody gives; did you mean"):
        run(weights={**WEIGHTS, "scores": 1.0})
    with pytest.raises(ValueError, match="the weight of 'score' is inf"):
        run(weights={"accuracy": 1.0, "score": math.inf})
    with pytest.raises(ValueError, match="no reward counts"):
        run(weights={"accuracy": 0.0, "score": 0.0})
    with pytest.raises(ValueError, match="'accuracy' has 4 rewards a prompt, and group=8"):
        run(group=8)
