"""How clips look, and when reward and truth part."""

import numpy as np
import pytest

from vidpref.stages.online.watching import Watch, looks


def test_looks_are_those_of_simple_clips():
    still = np.full((1, 3, 4, 4, 3), 128, np.uint8)
    red = np.zeros((1, 3, 4, 4, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    flicker = np.zeros((1, 3, 4, 4, 3), np.uint8)
    flicker[:, 1] = 255
    found = looks(np.concatenate([still, red, flicker]))
    np.testing.assert_allclose(found["look/colour"], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(found["look/motion"], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(found["look/contrast"], [0, 0, np.sqrt(2) / 3], atol=1e-6)
    assert looks(still[:, :1])["look/motion"] == 0


def said(truths, rewards, fall=0.05):
    watch = Watch(fall)
    return [watch.at(i + 1, r, t) for i, (r, t) in enumerate(zip(rewards, truths, strict=True))]


def test_it_warns_once_where_the_truth_falls_while_the_reward_rises():
    rise, fall = np.linspace(0.2, 0.5, 20), np.linspace(0.5, 0.2, 20)
    lines = said([*rise, *fall], np.linspace(0.0, 1.0, 40))
    (line,) = [line for line in lines if line]
    step = lines.index(line) + 1
    assert 24 < step < 36
    assert line.startswith(f"step {step}: the policy may be hacking its reward, which rose from")


@pytest.mark.parametrize(
    ("truths", "rewards"),
    [
        (np.linspace(0.2, 0.5, 40), np.linspace(0, 1, 40)),  # both rise
        (np.linspace(0.5, 0.2, 40), np.linspace(1, 0, 40)),  # both fall
        (np.linspace(0.5, 0.46, 40), np.linspace(0, 1, 40)),  # within what may fall
        (0.5 + 0.3 * (-1.0) ** np.arange(40), np.linspace(0, 1, 40)),  # noise
    ],
)
def test_it_is_silent_otherwise(truths, rewards):
    assert not any(said(truths, rewards))
