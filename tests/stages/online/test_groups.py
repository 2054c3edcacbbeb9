"""What is learnt from judged groups, by hand."""

import numpy as np
import pytest

from vidpref.objectives.policy_gradient import AdvantageRule
from vidpref.stages.online.groups import clip_rows, trajectories

NAN = np.nan
SCORES = {
    "accept": np.float32([[0, 1, 1], [1, 1, 1], [NAN, 0, 1], [NAN, NAN, NAN]]),
    "quality": np.float32([[0.2, 0.4, 0.6], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0, 0, 0]]),
}
B, G = SCORES["accept"].shape


def drawn():
    number = np.arange(B * G).reshape(B, G)
    clips = np.broadcast_to(number[..., None, None, None, None], (B, G, 2, 1, 1, 3))
    return {
        "clips": clips.astype(np.uint8),
        "scene": np.arange(B),
        "not_finite": np.zeros((B, G), int),
        "text": np.arange(B, dtype=np.float32)[:, None],
        "states": np.zeros((B, G, 3, 2, 1, 1, 3)),
        "log_probs": np.zeros((B, G, 2)),
    }


def numbers(batch):
    return np.asarray(batch["clips"])[:, :, 0, 0, 0, 0]


def test_pairs_are_the_best_and_the_worst_and_without_a_difference_weigh_nothing():
    batch, metrics = clip_rows("fresh_pairs", {"accept": 1.0})(drawn(), SCORES)
    assert set(batch) == {"clips", "reward", "weight", "text"}
    assert numbers(batch)[[0, 2]].tolist() == [[1, 0], [8, 7]]
    assert np.asarray(batch["reward"])[[0, 2]].tolist() == [[1, 0], [1, 0]]
    assert batch["weight"].tolist() == [1, 0, 1, 0]
    assert np.isfinite(batch["reward"]).all()
    assert metrics["failed/accept"] == pytest.approx(4 / 12)
    assert metrics["reward/quality"] == pytest.approx(np.mean(SCORES["quality"]))


def test_several_scores_are_weighed_and_a_clip_that_lacks_one_is_left_out():
    weights = {"accept": 1.0, "quality": -5.0}
    batch, _ = clip_rows("fresh_pairs", weights)(drawn(), SCORES)
    assert numbers(batch)[:3].tolist() == [[0, 2], [3, 5], [8, 7]]
    np.testing.assert_allclose(batch["reward"][0], [-1.0, -2.0], rtol=1e-6)
    assert batch["weight"].tolist() == [1, 1, 1, 0]


def test_winners_are_the_best_of_each_group():
    batch, _ = clip_rows("fresh_winners", {"quality": 1.0})(drawn(), SCORES)
    assert numbers(batch)[:2].tolist() == [[2], [5]]
    assert batch["weight"].tolist() == [1, 1, 0, 0]


def test_all_clips_come_with_their_prompts_and_failures_weigh_nothing():
    batch, _ = clip_rows("fresh", {"accept": 1.0})(drawn(), SCORES)
    assert numbers(batch)[:, 0].tolist() == list(range(B * G))
    assert batch["text"][:, 0].tolist() == np.repeat(np.arange(B), G).tolist()
    assert batch["weight"].tolist() == np.isfinite(SCORES["accept"]).ravel().tolist()
    assert np.nan_to_num(SCORES["accept"]).ravel().tolist() == batch["reward"][:, 0].tolist()


def test_every_clip_has_the_real_clip_of_its_prompt_beside_it():
    real = {"clips": np.arange(B)[:, None], "text": np.arange(B)[:, None] + 10.0}
    batch, _ = clip_rows("fresh", {"accept": 1.0})({**drawn(), "real": real}, SCORES)
    assert batch["real"]["clips"][:, 0].tolist() == np.repeat(np.arange(B), G).tolist()
    assert batch["real"]["text"].shape == (B * G, 1)


def test_normalised_rewards_have_mean_zero_and_deviation_one_over_what_was_scored():
    batch, _ = clip_rows("fresh", {"accept": 1.0}, normalize=True)(drawn(), SCORES)
    known = np.asarray(batch["weight"]) > 0
    reward = np.asarray(batch["reward"])[known, 0]
    np.testing.assert_allclose([reward.mean(), reward.std()], [0.0, 1.0], atol=1e-6)


def test_motion_scores_go_with_their_clips():
    scores = SCORES | {
        "object_motion": np.arange(12, dtype=np.float32).reshape(B, G),
        "camera_motion": -np.arange(12, dtype=np.float32).reshape(B, G),
    }
    motion = ("object_motion", "camera_motion")
    batch, _ = clip_rows("fresh_pairs", {"accept": 1.0}, motion=motion)(drawn(), scores)
    assert batch["motion"][0].tolist() == [[1, -1], [0, 0]]


def test_trajectories_have_advantages_and_groups_without_a_difference_none():
    rule = AdvantageRule(G, largest=1.0)
    batch, metrics = trajectories({"accept": 1.0}, rule)(drawn(), SCORES)
    assert set(batch) == {"states", "log_probs", "advantage", "text"}
    mean, std = 2 / 3, np.std([0, 1, 1], ddof=1)
    expected = np.clip((np.array([0, 1, 1]) - mean) / (std + 1e-4), -1, 1)
    np.testing.assert_allclose(batch["advantage"][0], expected, rtol=1e-5)
    assert not np.asarray(batch["advantage"])[[1, 3]].any()
    assert metrics["zero_spread_groups"] == 0.5
    assert set(metrics) == {
        *("zero_spread_groups", "advantage_std", "reward/accept", "reward/quality"),
        *("reward_std/accept", "failed/accept"),
    }
