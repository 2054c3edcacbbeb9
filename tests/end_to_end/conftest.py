"""A judge that likes about half of whatever it sees, so that tiny policies give both labels."""

import numpy as np
import pytest

from vidpref.stages import label, report


class Fickle:
    """Accepts by the sum of the clip's pixels: repeatable, and blind to what they show."""

    dimensions = ("accept",)

    def score(self, clips, prompts):
        sums = clips.reshape(len(clips), -1).astype(np.int64).sum(axis=1)
        return {"accept": (sums % 2).astype(np.float32)}

    def explain(self, clip, prompt):
        return "accepted" if clip.astype(np.int64).sum() % 2 else "even sum of pixels"


class Strict(Fickle):
    """Accepts nothing."""

    def score(self, clips, prompts):
        return {"accept": np.zeros(len(clips), np.float32)}


def _use(monkeypatch, judge):
    for module in (label, report):
        monkeypatch.setattr(module, "build_reward", lambda _: judge)


@pytest.fixture
def fickle(monkeypatch):
    _use(monkeypatch, Fickle())


@pytest.fixture
def strict(monkeypatch):
    _use(monkeypatch, Strict())
