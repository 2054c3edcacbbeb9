"""How clips look, and when reward and truth part."""

import json

import numpy as np
import pytest

from vidpref.stages.online.watching import ACCOUNT, NOTES, Watch, looks


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


RISE, FALL = np.linspace(0.2, 0.5, 20), np.linspace(0.5, 0.2, 20)
PARTING = [*RISE, *FALL], np.linspace(0.0, 1.0, 40)


def said(folder, truths, rewards, fall=0.05):
    folder.mkdir(exist_ok=True)
    watch = Watch(fall, folder)
    return [watch.at(i + 1, r, t) for i, (r, t) in enumerate(zip(rewards, truths, strict=True))]


def test_it_warns_once_where_the_truth_falls_while_the_reward_rises(tmp_path):
    lines = said(tmp_path, *PARTING)
    (line,) = [line for line in lines if line]
    step = lines.index(line) + 1
    assert 24 < step < 36
    assert line.startswith(f"step {step}: the policy may be hacking its reward, which rose from")
    account = json.loads((tmp_path / ACCOUNT).read_text())
    assert account == {"parted_at": step, "warning": line}


@pytest.mark.parametrize("killed_at", [1, 7, 20, 33])
def test_a_run_that_goes_on_comes_to_the_same(killed_at, tmp_path):
    """From its last checkpoint, two steps before the kill."""
    whole = said(tmp_path / "whole", *PARTING)
    pairs = [*zip(PARTING[1], PARTING[0], strict=True)]
    folder = tmp_path / "parts"
    folder.mkdir()
    first = Watch(0.05, folder, stops=True, steps=40)
    for step in range(1, killed_at + 1):
        first.at(step, *pairs[step - 1])
    again, start = Watch(0.05, folder, stops=True, steps=40), max(killed_at - 2, 1)
    lines = [again.at(step, *pairs[step - 1]) for step in range(start, 41)]
    (parted,) = [step for step, line in enumerate(whole, 1) if line]
    found = [step for step, line in enumerate(lines, start) if line]
    assert found == ([parted] if start <= parted else [])
    assert again.ended
    assert (folder / NOTES).read_text() == (tmp_path / "whole" / NOTES).read_text()


def test_it_ends_training_where_it_is_told_to(tmp_path):
    watch, ended = Watch(0.05, tmp_path, stops=True, steps=40), []
    for step, (truth, reward) in enumerate(zip(*PARTING, strict=True), 1):
        line = watch.at(step, reward, truth)
        ended.append(watch.ended)
        assert not line or line.endswith(f"training ends after {step - 1} of 40 steps")
    (parted,) = [i + 1 for i, why in enumerate(ended) if why and not ended[i - 1]]
    assert all(ended[parted - 1 :])
    account = json.loads((tmp_path / ACCOUNT).read_text())
    assert account["trained"] == parted - 1
    assert account["asked"] == 40
    (tmp_path / "other").mkdir()
    warned = Watch(0.05, tmp_path / "other", steps=40)
    assert any([warned.at(i + 1, r, t) for i, (t, r) in enumerate(zip(*PARTING, strict=True))])
    assert not warned.ended


@pytest.mark.parametrize(
    ("truths", "rewards"),
    [
        (np.linspace(0.2, 0.5, 40), np.linspace(0, 1, 40)),  # both rise
        (np.linspace(0.5, 0.2, 40), np.linspace(1, 0, 40)),  # both fall
        (np.linspace(0.5, 0.46, 40), np.linspace(0, 1, 40)),  # within what may fall
        (0.5 + 0.3 * (-1.0) ** np.arange(40), np.linspace(0, 1, 40)),  # noise
    ],
)
def test_it_is_silent_otherwise(truths, rewards, tmp_path):
    assert not any(said(tmp_path, truths, rewards))
    assert not (tmp_path / ACCOUNT).exists()
