"""Which clips each kind of rows pairs, and in which order."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.stages.numbered_clips import (
    numbers_of,
    real_record,
    row_inputs,
    write_labels,
    write_samples,
)
from vidpref.config.align import Align, Weights
from vidpref.config.fields import build as section
from vidpref.stages.rows.sampled import check_rows, judged_dimensions, row_builder, scalar_reward

# Two scenes of four clips each, then one of two; clips of a scene do not stand together.
CLIPS = [
    *(("x", 0, 10), ("y", 0, 20), ("x", 1, 11), ("y", 1, 21)),
    *(("x", 2, 12), ("y", 2, 22), ("x", 3, 13), ("y", 3, 23)),
    *(("z", 0, 30), ("z", 1, 31)),
]
SCORE = [1, 0, 0, 0, 0, 1, 1, 0, 1, 1]
QUALITY = [0.4, 0.1, 0.9, 0.2, 0.5, 0.3, 0.1, 0.8, 0.6, 0.6]


def config(method="dpo", *, reward=None, **fields):
    return section(Align(method=method, reward=Weights(**(reward or {})), **fields))


@pytest.fixture
def sampled(tmp_path):
    write_samples(tmp_path / "samples", CLIPS)
    motion = {"object_motion": np.arange(10) / 10, "camera_motion": np.arange(10) / 20}
    score = np.array(SCORE, float)
    write_labels(tmp_path / "labels", CLIPS, score=score, visual_quality=QUALITY, **motion)
    return row_inputs(tmp_path, clips=tmp_path / "samples", labels=tmp_path / "labels")


def build(given, settings):
    rows = row_builder(settings).build(given, settings)
    return rows, [(numbers_of(rows[i]), rows[i]["reward"].tolist()) for i in range(len(rows))]


def test_all_clips_with_their_rewards(sampled, tmp_path):
    rows, found = build(sampled, config("rwr", rows="all"))
    assert rows.k == 1
    expected = [([number], [score]) for (*_, number), score in zip(CLIPS, SCORE, strict=True)]
    assert found == expected


def test_pairs_of_accepted_and_rejected_clips_of_one_scene(sampled, tmp_path):
    _, found = build(sampled, config(rows="pairs"))
    expected = [[10, 11], [10, 12], [13, 11], [13, 12], [22, 20], [22, 21], [22, 23]]
    assert sorted(numbers for numbers, _ in found) == expected
    assert all(reward == [1.0, 0.0] for _, reward in found)
    report = json.loads((tmp_path / "pairs.json").read_text())
    assert (report["prompts"], report["pairs"], report["all_accepted"]) == (3, 7, 1)


def test_pairs_of_best_and_worst_by_a_weighted_reward(sampled, tmp_path):
    settings = config(
        rows="pairs", pairs="best_worst", max_pairs_per_prompt=2, reward={"visual_quality": 2.0}
    )
    _, found = build(sampled, settings)
    expected = [([11, 13], [1.8, 0.2]), ([12, 10], [1.0, 0.8])]
    expected += [([23, 20], [1.6, 0.2]), ([22, 21], [0.6, 0.4])]
    assert [numbers for numbers, _ in found] == [numbers for numbers, _ in expected]
    np.testing.assert_allclose([r for _, r in found], [r for _, r in expected], rtol=1e-6)


def test_mcdpo_rows_carry_the_motion_of_each_clip(sampled, tmp_path):
    settings = config("mcdpo", rows="pairs", pairs="best_worst", reward={"visual_quality": 1.0})
    settings.max_pairs_per_prompt = 1
    rows, found = build(sampled, settings)
    assert [numbers for numbers, _ in found] == [[11, 13], [23, 20]]
    np.testing.assert_allclose(rows[0]["motion"], [[0.2, 0.1], [0.6, 0.3]])  # labels 2 and 6
    np.testing.assert_allclose(rows[1]["motion"], [[0.7, 0.35], [0.1, 0.05]])


def test_winners_come_once_each(sampled, tmp_path):
    rows, found = build(sampled, config("sft", rows="winners"))
    assert rows.k == 1
    assert found == [([10], [1.0]), ([22], [1.0]), ([13], [1.0])]


def test_real_clips_alone(tmp_path):
    given = row_inputs(tmp_path, [real_record(0), real_record(1, defect=b"jump"), real_record(2)])
    _, found = build(given, config("sft", rows="real", real_clips=0))
    assert found == [([0], [1.0]), ([2], [1.0])]


@pytest.mark.parametrize("order", [1, -1])
def test_real_clips_meet_the_losers_of_their_own_scene(tmp_path, order):
    real = [real_record(0), real_record(1, defect=b"jump"), real_record(2), real_record(3)]
    losers = [(f"real-{i}", sample, 100 + 10 * i + sample) for i in (0, 2, 3) for sample in (0, 1)]
    write_samples(tmp_path / "losers", losers[::order])
    given = row_inputs(tmp_path, real, losers=tmp_path / "losers")
    settings = config(rows="real_and_samples", real_clips=0, losers=2)
    rows, found = build(given, settings)
    assert rows.k == row_builder(settings).k(settings) == 3
    reward = [1.0, 0.0, 0.0]
    assert found == [([0, 100, 101], reward), ([2, 120, 121], reward), ([3, 130, 131], reward)]
    np.testing.assert_array_equal(rows[1]["text"], given.texts["a cup"][0])  # the real clip's


@pytest.mark.parametrize(
    "settings",
    [
        config("rwr", rows="all"),
        config(rows="pairs"),
        config("mcdpo", rows="pairs", pairs="best_worst", reward={"visual_quality": 1.0}),
        config("sft", rows="winners"),
    ],
)
def test_the_order_of_the_labels_means_nothing(sampled, tmp_path, settings):
    def everything():
        rows = row_builder(settings).build(sampled, settings)
        return [rows[i] for i in range(len(rows))]

    expected, path = everything(), tmp_path / "labels" / "labels.parquet"
    labels = pd.read_parquet(path).sample(frac=1.0, random_state=3)
    assert labels["clip_id"].tolist() != [f"{scene}/{i}" for scene, i, _ in CLIPS]
    labels.to_parquet(path)
    found = everything()
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            np.testing.assert_array_equal(value, other[name], strict=True)


def test_without_a_pair_the_user_is_told(sampled, tmp_path):
    write_labels(tmp_path / "labels", CLIPS, score=np.ones(10))
    with pytest.raises(ValueError, match=r"no prompt gave a preference pair.* 3 all accepted"):
        build(sampled, config(rows="pairs"))


def test_a_judge_that_tells_next_to_nothing_apart_is_refused(sampled, tmp_path):
    clips = [(f"scene-{n}", i, 2 * n + i) for n in range(100) for i in range(2)]
    write_samples(tmp_path / "samples", clips)
    score = np.ones(200)
    score[7] = 0.0  # of one prompt a clip is rejected
    write_labels(tmp_path / "labels", clips, score=score)
    with pytest.raises(ValueError, match=r"^1 prompt gave a preference pair.* 99 all accepted"):
        build(sampled, config(rows="pairs"))
    score[[1, 3]] = 0.0  # of three
    write_labels(tmp_path / "labels", clips, score=score)
    _, found = build(sampled, config(rows="pairs"))
    assert len(found) == 3


def test_scalar_reward():
    labels = pd.DataFrame({"score": [1.0, 0.0, 0.0, 1.0], "accept": [0.0, 1.0, 0.0, 1.0]})
    labels["camera_motion"] = [0.5, 0.5, 0.1, 0.9]
    np.testing.assert_allclose(scalar_reward(labels, config()), labels["score"])
    settings = config(reward={"accept": 2.0, "camera_motion": -1.0})
    np.testing.assert_allclose(scalar_reward(labels, settings), [-0.5, 1.5, -0.1, 1.1], rtol=1e-6)
    settings.normalize_reward = True
    found = scalar_reward(labels, settings)
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(np.argsort(found), [0, 2, 3, 1])
    unused = {"accept": 1.0, "overall": 0.0}  # never scored, and not asked for
    np.testing.assert_allclose(scalar_reward(labels, config(reward=unused)), labels["accept"])
    zero = config(reward={"accept": 0.0})
    np.testing.assert_allclose(scalar_reward(labels, zero), labels["score"])
    equal = scalar_reward(labels.assign(score=1.0), config(normalize_reward=True))
    np.testing.assert_array_equal(equal, np.zeros(4))


def test_a_dimension_without_scores_is_named(sampled, tmp_path):
    with pytest.raises(ValueError, match=r"align.reward.text_alignment: the judge did not"):
        build(sampled, config("rwr", rows="all", reward={"text_alignment": 1.0}))
    write_labels(tmp_path / "labels", CLIPS, score=np.array(SCORE, float), object_motion=0.0)
    with pytest.raises(ValueError, match=r"mcdpo needs motion scores.* no camera_motion"):
        build(sampled, config("mcdpo", rows="pairs"))


def test_what_the_judge_must_score():
    reward = {"visual_quality": 1.0}
    assert judged_dimensions(config("rwr", rows="all", reward=reward)) == ("visual_quality",)
    assert judged_dimensions(config("mcdpo", reward=reward)) == (
        *("visual_quality", "object_motion", "camera_motion"),
    )
    assert judged_dimensions(config("rwr", rows="all")) == ()  # its own score counts
    assert judged_dimensions(config(rows="real_and_samples", reward=reward)) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            config("mcdpo", rows="real_and_samples", losers=3),
            "method='mcdpo' takes 2 clips a row, the rows have 4",
        ),
        (
            config("mcdpo", rows="real_and_samples", losers=1),
            "rows='real_and_samples' has no motion scores",
        ),
        (config("kto", rows="pairs"), "method='kto' takes 1 clips a row, the rows have 2"),
        (
            config(reward={"accept": 1.0, "visual_quality": 0.5}),
            "reward.visual_quality is graded, .*: use --config.align.pairs=best_worst",
        ),
        (config(rows="all"), "method='dpo' takes 2 or more clips a row, the rows have 1"),
        (
            config(rows="real_and_samples", losers=0),
            "method='dpo' takes 2 or more clips a row, the rows have 1",
        ),
    ],
)
def test_rows_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check_rows(settings)
