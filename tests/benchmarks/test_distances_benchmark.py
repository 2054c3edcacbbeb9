"""benchmarks/distances.py: distances of features whose values are known."""

import numpy as np
import pytest
from claimed import distances

from vidpref.datasets.miniworld import prompts


def test_a_shift_of_all_features_is_its_square():
    rng = np.random.default_rng(0)
    true, texts = rng.normal(size=(50, 4, 3)), rng.normal(size=(50, 3))
    shift = np.array([0.3, -0.1, 0.2])
    found = distances.measured(true + shift, true, texts, 1.0)
    assert found.frames == pytest.approx(shift @ shift)
    assert found.clips == pytest.approx(4 * shift @ shift)
    cosines = ((true + shift) * texts[:, None]).sum(axis=2)
    assert found.clip_score == pytest.approx(cosines.mean())
    same = distances.measured(true[::-1], true, texts, 1.0)
    assert same.frames == pytest.approx(0, abs=1e-9)
    assert same.clips == pytest.approx(0, abs=1e-9)


def test_the_inception_score_counts_prompts_that_are_recognised():
    texts = np.repeat(np.eye(3), 10, axis=0)
    clear = distances.measured(texts[:, None], texts[:, None], texts, 1e3)
    assert clear.inception_score == pytest.approx(3)
    vague = distances.measured(texts[:, None], texts[:, None], texts, 0.0)
    assert vague.inception_score == pytest.approx(1)
    same = distances.measured(np.tile(texts[:1, None], (30, 1, 1)), texts[:, None], texts, 1e3)
    assert same.inception_score == pytest.approx(1)


def test_order_in_time_counts_for_clips_alone():
    true = np.random.default_rng(0).normal(size=(500, 4, 3)) + np.arange(4)[:, None]
    found = distances.measured(true[:, ::-1], true, np.ones((500, 3)), 1.0)
    assert found.frames == pytest.approx(0, abs=1e-9)
    assert found.clips > 1


def test_a_table_has_the_mean_of_seeds_and_the_generator_before_first():
    def of(value):
        return distances.Measured(value, 2 * value, 7.0, 0.5)

    found = {
        "0": {"rwr": of(1.0), "pretrained": of(2.0)},
        "1": {"rwr": of(3.0), "pretrained": of(2)},
    }
    rows = distances.table(found).rows
    assert [row[0] for row in rows] == ["pretrained", "rwr"]
    assert rows[0][1:] == [
        "2.0000 [2.0000, 2.0000]",
        "4.0000 [4.0000, 4.0000]",
        "7.0000 [7.0000, 7.0000]",
        "0.5000 [0.5000, 0.5000]",
    ]
    half = 12.706204736432095  # of the t distribution with one degree of freedom, times 1
    assert rows[1][1] == f"2.0000 [{2 - half:.4f}, {2 + half:.4f}]"


def test_true_clips_are_as_many_as_there_are_of_the_policy():
    texts = [prompts("test")[3].text] * 2 + [prompts("test")[0].text] * 2
    clips = distances.true_clips(texts, 0)
    assert len(clips) == 4
    assert not np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips, distances.true_clips(texts, 1))
