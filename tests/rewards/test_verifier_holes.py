"""What the judge lets through of each kind of clip that a person calls wrong; -s prints it."""

import itertools

import numpy as np
import pytest

from tests.rewards.verifier_holes import HOLES, make
from vidpref.datasets.miniworld import PROMPTS, render_batch, scene
from vidpref.rewards.verifier import Verifier

JUDGE = Verifier(("accept",))
_BY_CHANCE = 4  # standard deviations of a count of clips


def _check(name, accepted):
    hole, count = HOLES[name], len(accepted)
    print(f"{name:40s} {hole.before:5.1f} % before, {100 * accepted.mean():5.1f} % now")
    most = hole.most / 100
    allowed = count * most + _BY_CHANCE * np.sqrt(count * most * (1 - most))
    assert accepted.sum() <= allowed, f"{name}: {accepted.sum():.0f} of {count}"


def _accepted(made):
    """Of kinds made by `make` that can be judged in one call."""
    clips, texts, given = zip(*made, strict=True)
    frames = None if given[0] is None else np.concatenate(given)
    texts = [text for some in texts for text in some]
    accepted = JUDGE.score(np.concatenate(clips), texts, frames).scores["accept"]
    return np.split(accepted, np.cumsum([len(some) for some in clips])[:-1])


def test_a_few_clips_of_each_hole():
    def together(name):
        return HOLES[name].scale, HOLES[name].given is None

    for _, names in itertools.groupby(sorted(HOLES, key=together), together):
        names = list(names)
        for name, accepted in zip(names, _accepted([make(n, 12) for n in names]), strict=True):
            _check(name, accepted)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOLES)
def test_many_clips_of_each_hole(name):
    _check(name, _accepted([make(name, 600)])[0])


def test_every_hole_that_was_closed_is_mostly_closed():
    """The table as a whole: half of the kinds let at most one clip in fifty through."""
    assert np.median([hole.most for hole in HOLES.values()]) <= 5


def test_true_clips_with_their_first_frames_are_accepted():
    cases = [(prompt, 31_000_000 + n) for n, prompt in enumerate(PROMPTS[::5])]
    clips = render_batch([scene(*case) for case in cases])
    large = render_batch([scene(*case) for case in cases], scale=2)
    texts = [prompt.text for prompt, _ in cases]
    for own in (clips, large):
        for given in (clips[:, 0], large[:, 0]):
            assert JUDGE.score(own, texts, given).scores["accept"].mean() >= 0.995


def test_the_reason_names_the_first_frame_and_the_detail():
    clips, texts, given = make("first frame one pixel aside", 8)
    assert JUDGE.score(clips, texts, given).reasons[0].startswith("first frame: ")
    clips, texts, _ = make("screen door at 32x32", 8)
    assert JUDGE.score(clips, texts).reasons[0].startswith("detail: ")
