"""Flow-GRPO on latents: adapters of a tiny Wan2.1 learn from clips that a judge sees decoded."""

import jax
import numpy as np
import pytest

from tests.end_to_end.tiny import TINY_WAN, few_preferences
from vidpref.generation.adapters import trained_adapters
from vidpref.generation.adopt import load_config
from vidpref.rewards.registry import REWARDS, RewardSpec
from vidpref.rewards.reward import Judgement
from vidpref.runs import rounds
from vidpref.training.metrics import read_metrics
from vidpref.training.tuning import Adapters

FEW = (
    *("sampler.steps=3", "align.online.window=(0,2)", "align.online.group=2"),
    *("align.train.steps=4", "align.train.checkpoint_every=1", "evaluate.test_prompts=1"),
    *("reward.name=metrics", "reward.dimension=aesthetic", "reward.dimensions=('aesthetic',)"),
)


class Brightness:
    """How bright a clip is; it may be killed at a drawing."""

    dimensions = ("aesthetic",)

    def __init__(self):
        self.seen, self.killed_at = [], None

    def score(self, clips, prompts):
        self.seen.append(clips.shape)
        if len(self.seen) == self.killed_at:
            raise KeyboardInterrupt
        scores = clips.reshape(len(clips), -1).mean(axis=1) / 255
        return Judgement({"aesthetic": scores.astype(np.float32)}, [""] * len(clips))


@pytest.fixture
def judge(monkeypatch):
    found = Brightness()
    spec = RewardSpec(lambda *_: found, version="1", unit="own")
    monkeypatch.setitem(REWARDS, "metrics", spec)
    return found


def trained(done):
    (stage,) = [f for f in done.stages if f.stage.name.startswith("align")]
    recipe = done.recipe
    spec = trained_adapters(recipe.config, recipe.generator)
    adapters = Adapters(recipe.generator.init, spec).load(stage.path, recipe.mesh)
    return stage.path, jax.device_get(adapters)


def test_adapters_learn_from_decoded_clips_and_go_on_after_a_kill(wan_folder, tmp_path, judge):
    few_preferences(tmp_path)
    given = [f"model.init={wan_folder}", f"data.pairs={tmp_path / 'pairs.csv'}", *TINY_WAN, *FEW]
    config = load_config("flow_grpo:wan2_1_1_3b", given)
    whole, adapters = trained(rounds.run(config, tmp_path / "whole"))
    assert set(judge.seen[:4]) == {(16, 9, 32, 48, 3)}  # groups of two for eight prompts
    lines = read_metrics(whole)
    for line in lines:
        assert np.isfinite(line["loss"])
        assert line["grad_norm"] > 0
        assert line["reward_std/aesthetic"] > 0
        assert line["sampler_gap"] < 1e-4
    assert max(np.abs(x).max() for x in jax.tree.leaves(adapters)) > 1e-3
    assert not (whole / "params").exists()

    judge.seen, judge.killed_at = [], 3
    with pytest.raises(KeyboardInterrupt):
        rounds.run(config, tmp_path / "parts")
    judge.seen, judge.killed_at = [], None
    parts, again = trained(rounds.run(config, tmp_path / "parts"))
    assert judge.seen[:2] == [(16, 9, 32, 48, 3)] * 2
    jax.tree.map(np.testing.assert_array_equal, again, adapters)
    assert read_metrics(parts) == lines
