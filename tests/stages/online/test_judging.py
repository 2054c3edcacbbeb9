"""Judging of drawn groups: a judge beside the one that counts, decoded latents, broken clips."""

import jax
import numpy as np
import pytest

from vidpref.config.fields import build
from vidpref.config.schema import Reward
from vidpref.datasets.scenes import Scene
from vidpref.objectives.policy_gradient import AdvantageRule
from vidpref.rewards.reward import JudgeError, Judgement
from vidpref.stages.online.groups import trajectories
from vidpref.stages.online.judging import GroupJudge
from vidpref.training.processes import share_of
from vidpref.training.sharding import batch_sharding, make_mesh

B, G = 8, 2
SCENES = [Scene(f"s{n}", f"prompt {n}", "DM", "train", np.full((4, 4, 3), n)) for n in range(B)]


class Pixels:
    """Scores a clip by its first pixel, and remembers what it was told."""

    dimensions = ("accept",)

    def __init__(self, factor):
        self.factor, self.prompts, self.told = factor, [], {}

    def score(self, clips, prompts, **told):
        self.prompts, self.told = list(prompts), told
        scores = self.factor * clips[:, 0, 0, 0, 0].astype(np.float32)
        return Judgement({"accept": scores}, [""] * len(clips))


def drawn(mesh, bad=0):
    share = share_of(batch_sharding(mesh), B)
    clips = np.zeros((B, G, 2, 4, 4, 3), np.uint8)
    clips += np.arange(B * G, dtype=np.uint8).reshape(B, G, 1, 1, 1, 1)
    broken = np.zeros((B, G), np.int32)
    broken[3, 1] = bad
    scene = np.arange(B, dtype=np.int32)[::-1].copy()
    return share.place({"clips": clips, "scene": scene, "not_finite": broken})


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": -1})


def test_the_verifier_scores_beside_and_is_told_the_first_frames(mesh):
    judge, watch = Pixels(1.0), Pixels(0.5)
    reward = build(Reward(name="vlm_judge"))
    found = GroupJudge(judge, reward, SCENES, mesh, watch, given=True)(drawn(mesh), 1)
    number = np.arange(B * G, dtype=np.float32).reshape(B, G)
    np.testing.assert_array_equal(found["accept"], number)
    np.testing.assert_array_equal(found["truth/accept"], number / 2)
    assert judge.prompts[:3] == ["prompt 7", "prompt 7", "prompt 6"] == watch.prompts[:3]
    assert judge.told == {}  # it does not compare them
    assert watch.told["first_frames"][:3, 0, 0, 0].tolist() == [7, 7, 6]


def test_latents_are_decoded_before_they_are_judged(mesh):
    decode = jax.jit(lambda x: x + 1, out_shardings=batch_sharding(mesh))
    judge = GroupJudge(Pixels(1.0), build(Reward()), SCENES, mesh, decode=decode)
    number = np.arange(B * G, dtype=np.float32).reshape(B, G)
    np.testing.assert_array_equal(judge(drawn(mesh), 1)["accept"], number + 1)


def test_clips_that_are_no_numbers_end_the_training_by_name(mesh):
    judge = GroupJudge(Pixels(1.0), build(Reward()), SCENES, mesh)
    with pytest.raises(ValueError, match=r"step 5: drawing for 8 prompts: .*s4/1 \(9 values\)"):
        judge(drawn(mesh, bad=9), 5)


class Silent(Pixels):
    """Has no word on every third clip, or on any."""

    def __init__(self, every):
        super().__init__(1.0)
        self._every = every

    def score(self, clips, prompts, **told):
        scores = super().score(clips, prompts).scores["accept"]
        failures = {i: "it did not answer" for i in range(0, len(clips), self._every)}
        scores[list(failures)] = np.nan
        return Judgement({"accept": scores}, [""] * len(clips), failures)


def test_clips_that_a_judge_fails_on_are_counted_and_teach_nothing(mesh):
    made = drawn(mesh)
    found = GroupJudge(Silent(3), build(Reward()), SCENES, mesh)(made, 1)
    failed = np.isnan(found["accept"])
    assert failed.sum() == 6
    rule = AdvantageRule(G)
    more = {"states": np.zeros((B, G, 2, 1, 1, 1, 1)), "log_probs": np.zeros((B, G, 1))}
    scores = {"accept": found["accept"]}
    batch, metrics = trajectories({"accept": 1.0}, rule)({**made, **more}, scores)
    assert metrics["failed/accept"] == pytest.approx(6 / 16)
    assert np.all(np.asarray(batch["advantage"])[failed] == 0)
    assert np.all(np.asarray(batch["advantage"])[~failed.any(axis=1)] != 0)


def test_a_judge_that_fails_on_all_ends_the_training(mesh):
    judge = GroupJudge(Silent(1), build(Reward()), SCENES, mesh)
    with pytest.raises(JudgeError, match=r"step 7: 16 of 16 clips got no verdict .*did not answer"):
        judge(drawn(mesh), 7)


def test_a_batch_without_a_difference_is_counted_and_teaches_nothing(mesh):
    made = drawn(mesh)
    found = GroupJudge(Pixels(0.0), build(Reward()), SCENES, mesh)(made, 1)
    more = {"states": np.zeros((B, G, 2, 1, 1, 1, 1)), "log_probs": np.zeros((B, G, 1))}
    batch, metrics = trajectories({"accept": 1.0}, AdvantageRule(G))(
        {**made, **more}, {"accept": found["accept"]}
    )
    assert metrics["zero_spread_groups"] == 1.0
    assert metrics["reward_std/accept"] == 0.0
    assert np.all(np.asarray(batch["advantage"]) == 0)
