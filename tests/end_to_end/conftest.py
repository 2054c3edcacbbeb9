"""What the whole-recipe tests share: a small world, built once, and judges without a verifier."""

import jax
import numpy as np
import pytest

from configs.shared.flow import DIMENSIONS
from tests.end_to_end.tiny import few_clips
from vidpref.rewards.registry import REWARDS, RewardSpec
from vidpref.rewards.reward import Judgement


@pytest.fixture(scope="session", autouse=True)
def small_world(tmp_path_factory):
    """Builds the mini world with few clips, and compiles every program once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        builder, configs = few_clips()
        patch.setattr(builder.Miniworld, "BUILDER_CONFIGS", configs)
        cache = str(tmp_path_factory.mktemp("compiled"))
        jax.config.update("jax_compilation_cache_dir", cache)
        shortest = jax.config.jax_persistent_cache_min_compile_time_secs
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        yield
        jax.config.update("jax_compilation_cache_dir", None)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", shortest)


class Fickle:
    """Accepts every second clip it is shown: clips of an untrained policy all look the same."""

    dimensions = ("accept",)
    asked = 0  # clips

    def score(self, clips, prompts):
        self.asked += len(clips)
        scores = {"accept": (np.arange(len(clips)) % 2).astype(np.float32)}
        return Judgement(scores, ["every second clip"] * len(clips))


class Graded(Fickle):
    """Scores every dimension of the flow configs by chance, the same for the same clips."""

    dimensions = DIMENSIONS

    def score(self, clips, prompts):
        rng = np.random.default_rng(len(clips))
        scores = {name: rng.uniform(size=len(clips)).astype(np.float32) for name in DIMENSIONS}
        fickle = super().score(clips, prompts)
        return Judgement({**scores, **fickle.scores}, fickle.reasons)


class Strict(Fickle):
    """Accepts nothing."""

    def score(self, clips, prompts):
        scores = {"accept": np.zeros(len(clips), np.float32)}
        return Judgement(scores, ["no clip"] * len(clips))


def _use(monkeypatch, judge):
    # the verifier's version, so that programs in processes of their own find the run's stages
    spec = RewardSpec(lambda *_: judge, version=REWARDS["verifier"].version)
    monkeypatch.setitem(REWARDS, "verifier", spec)
    return judge


@pytest.fixture
def fickle(monkeypatch):
    return _use(monkeypatch, Fickle())


@pytest.fixture
def strict(monkeypatch):
    _use(monkeypatch, Strict())


@pytest.fixture
def graded(monkeypatch):
    _use(monkeypatch, Graded())
