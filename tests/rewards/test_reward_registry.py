"""Rewards by name: dimensions, what is refused, and a judge that another stage made."""

from pathlib import Path

import numpy as np
import pytest

from tests.stages.sampled_clips import write_sampled
from vidpref.config.fields import build
from vidpref.config.schema import Reward as RewardSection
from vidpref.rewards.registry import (
    REWARDS,
    RewardSpec,
    build_reward,
    check_reward,
    judge_version,
    scoring,
)
from vidpref.rewards.reward import Judgement, Reward
from vidpref.stages import label


def section(name="verifier", dimension="accept", **fields):
    return build(RewardSection(name=name, dimension=dimension, **fields))


class Brightness:
    """Accepts clips that are brighter than what a stage has measured."""

    def __init__(self, dimensions: tuple[str, ...], threshold: float):
        self.dimensions, self.threshold = dimensions, threshold

    def score(self, clips, prompts):
        bright = clips.mean((1, 2, 3, 4))
        scores = {"accept": bright > self.threshold, "brightness": bright / 255}
        return Judgement(
            {name: scores[name].astype(np.float32) for name in self.dimensions},
            [f"{value:.0f} against {self.threshold:.0f}" for value in bright],
        )


@pytest.fixture
def brightness(monkeypatch):
    def build(section, dimensions, artifacts):
        return Brightness(dimensions, float((artifacts["threshold"] / "value.txt").read_text()))

    monkeypatch.setitem(REWARDS, "brightness", RewardSpec(build, artifacts=("threshold",)))


def measure(folder: Path, clips: np.ndarray) -> None:
    """The stage that makes the judge."""
    folder.mkdir()
    (folder / "value.txt").write_text(str(clips.mean()))


def test_a_judge_that_a_stage_made_labels_clips(brightness, tmp_path):
    clips = np.zeros((4, 2, 4, 4, 3), np.uint8) + np.uint8([10, 90, 20, 80]).reshape(-1, 1, 1, 1, 1)
    measure(tmp_path / "measured", clips)
    (tmp_path / "samples").mkdir()
    (tmp_path / "labels").mkdir()
    write_sampled(tmp_path / "samples", clips)
    reward = section("brightness", "brightness", dimensions=("accept", "brightness"))
    made = {"threshold": tmp_path / "measured"}
    label.label_clips(
        tmp_path / "labels", tmp_path / "samples", reward, name="label", artifacts=made
    )
    labels = label.read_labels(tmp_path / "labels")
    assert labels["clip_id"].tolist() == [f"scene/{i}" for i in range(4)]
    assert labels["accept"].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(labels["score"], np.float32([10, 90, 20, 80]) / 255)
    assert labels["rationale"].tolist() == [f"{n} against 50" for n in (10, 90, 20, 80)]
    assert set(labels["who"]) == {"brightness"}


class SameStart:
    """Accepts clips that begin with the frame that was given."""

    dimensions = ("accept",)

    def score(self, clips, prompts, first_frames=None):
        same = np.zeros(len(clips)) if first_frames is None else clips[:, 0] == first_frames
        same = same.reshape(len(clips), -1).all(1)
        return Judgement({"accept": same.astype(np.float32)}, ["" for _ in clips])


@pytest.mark.parametrize(("given", "accepted"), [(True, [1, 0]), (False, [0, 0])])
def test_a_judge_that_compares_is_told_the_first_frames(given, accepted, monkeypatch, tmp_path):
    spec = RewardSpec(lambda section, dimensions, artifacts: SameStart(), first_frames=True)
    monkeypatch.setitem(REWARDS, "same_start", spec)
    clips = np.random.default_rng(0).integers(0, 256, (2, 2, 4, 4, 3), np.uint8)
    (tmp_path / "samples").mkdir()
    (tmp_path / "labels").mkdir()
    frames = [clips[0, 0], 255 - clips[1, 0]]
    write_sampled(tmp_path / "samples", clips, first_frames=frames)
    reward = section("same_start", dimensions=("accept",))
    label.label_clips(tmp_path / "labels", tmp_path / "samples", reward, name="label", given=given)
    assert label.read_labels(tmp_path / "labels")["accept"].tolist() == accepted


def test_an_artifact_that_is_missing_is_named_and_not_needed_for_a_check(brightness):
    reward = section("brightness", dimensions=("accept", "brightness"))
    assert check_reward(reward) == ("accept", "brightness")
    with pytest.raises(ValueError, match=r"'brightness' is built from threshold, and there is no "):
        build_reward(reward)
    with pytest.raises(ValueError, match="dimension='grace': brightness scores accept, brightness"):
        check_reward(section("brightness", "grace", dimensions=("accept", "brightness")))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("accept",)),
        ({"dimensions": ("accept", "camera_motion")}, ("accept", "camera_motion")),
    ],
)
def test_without_dimensions_the_one_of_acceptance_is_scored(fields, expected):
    built = build_reward(section(**fields))
    assert isinstance(built, Reward)
    assert built.dimensions == check_reward(section(**fields)) == expected
    assert build_reward(section(**fields), dimensions=("accept",)).dimensions == ("accept",)


def test_what_the_alignment_needs_is_scored_where_nothing_else_is_named():
    needed = ("camera_motion", "accept")
    assert scoring(section(), needed).dimensions == ("accept", "camera_motion")
    assert scoring(section(dimensions=()), ()).dimensions == ("accept",)
    named = section(dimensions=("accept", "object_motion"))
    assert scoring(named, needed) == named


def test_the_version_of_a_judge_follows_its_rules_or_its_templates(monkeypatch, tmp_path):
    assert judge_version(section("verifier")) == REWARDS["verifier"].version != ""
    (tmp_path / "question.txt").write_text("Is it good?")
    spec = RewardSpec(lambda *_: None, templates=lambda section: (tmp_path,))
    monkeypatch.setitem(REWARDS, "remote_judge", spec)
    before = judge_version(section("remote_judge"))
    (tmp_path / "question.txt").write_text("Is it bad?")
    assert before != judge_version(section("remote_judge")) != ""


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (section("oracle"), "name='oracle': known are metrics, remote_judge, verifier, video_rew"),
        (section(dimensions=("motion_quality",)), "dimension='accept': verifier scores motion_qua"),
        (section(dimension="camera_motoin"), "did you mean camera_motion"),
    ],
)
def test_what_is_no_judge_is_refused(reward, message):
    for refuse in (build_reward, check_reward):
        with pytest.raises(ValueError, match=message):
            refuse(reward)


def test_a_judgement_explains_what_it_lacks():
    scores = {"accept": np.float32([1, np.nan, 0])}
    Judgement(scores, ["", "?", ""], {1: "unclear"})
    with pytest.raises(ValueError, match="'accept' of row 1 is nan, which no failure explains"):
        Judgement(scores, [""] * 3)
    with pytest.raises(ValueError, match="3 scores of 'accept', 2 reasons"):
        Judgement(scores, [""] * 2)
