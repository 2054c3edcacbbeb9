"""Inception Score and CLIP score against their definitions."""

import numpy as np
import pytest
from scipy import stats

from vidpref.evaluation.clip_score import clip_score
from vidpref.evaluation.inception_score import inception_score


def test_sure_and_balanced_pictures_score_the_number_of_classes():
    sure = 1e3 * np.eye(4).repeat(5, axis=0)
    assert inception_score(sure, 1) == pytest.approx((4.0, 0.0))
    assert inception_score(np.zeros((20, 4)), 2) == pytest.approx((1.0, 0.0))


def test_the_score_is_that_of_the_original_code():
    """A loop over splits and pictures with scipy's entropy, as openai/improved-gan has it."""
    logits = 3 * np.random.default_rng(0).standard_normal((23, 6))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = []
    for k in range(4):
        part = p[k * (23 // 4) : (k + 1) * (23 // 4)]
        scores.append(np.exp(np.mean([stats.entropy(row, part.mean(0)) for row in part])))
    found = inception_score(logits.astype(np.float32), 4)
    assert found == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-6)


def test_splits_without_pictures_are_refused():
    with pytest.raises(ValueError, match="3 pictures cannot be divided into 4"):
        inception_score(np.zeros((3, 5)), 4)
    with pytest.raises(ValueError, match="not finite"):
        inception_score(np.full((3, 5), np.inf), 1)


def test_clip_score_is_the_mean_cosine():
    frames = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert clip_score(frames, np.array([5.0, 0.0])) == pytest.approx(0.0, abs=1e-15)
    angles = np.radians([10.0, 50.0])
    frames = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    wanted = np.mean(np.cos(angles - np.radians(30.0)))
    prompt = np.array([np.cos(np.radians(30.0)), np.sin(np.radians(30.0))])
    assert clip_score(frames, prompt) == pytest.approx(wanted, rel=1e-12)


def test_nothing_has_no_clip_score():
    with pytest.raises(ValueError, match="without frames"):
        clip_score(np.zeros((0, 2)), np.ones(2))
    with pytest.raises(ValueError, match="no direction"):
        clip_score(np.zeros((1, 2)), np.ones(2))
