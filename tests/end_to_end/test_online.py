"""Alignments whose clips the policy draws and the judge scores at every step, end to end."""

import json

import numpy as np
import pytest

from tests.end_to_end.tiny import TINY_FLOW
from vidpref.config.online import FROM_ADVANTAGES
from vidpref.generation.adopt import load_config
from vidpref.rewards.reward import Judgement
from vidpref.runs import fresh_clips, report, rounds
from vidpref.training.metrics import read_metrics

GROUP = ("align.online.group=4", "align.online.prompts=12")
OPTIMIZER = "align.train.optimizer"
TWICE = (
    *("align.online.updates=2", "align.train.steps=4", "align.train.batch_size=8"),
    *(f"{OPTIMIZER}.learning_rate=0.02", f"{OPTIMIZER}.warmup_steps=0"),
)
OF_GRPO = ("align.train.steps=4", "align.train.batch_size=16", "align.online.kl=0.1")
RUNS = {
    "flow_grpo": (
        *("align.online.window=(0,1)", "align.online.slide=1", "align.online.updates=2"),
        *OF_GRPO,
    ),
    "diffusion_nft": (*TWICE, "align.online.kl=0.01"),
    "awm": TWICE,
    "flow_dpo": ("align.rows=fresh_pairs",),
    "flow_rwr": ("align.rows=fresh", "align.lora.rank=0"),
    "flow_sft": ("align.rows=fresh_winners",),
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("online")


def aligned(name, workdir, *overrides):
    tiny = [f for f in TINY_FLOW if not f.startswith("label.")]
    config = load_config(f"{name}:mini", [*tiny, *GROUP, *overrides])
    done = rounds.run(config, workdir)
    page = report.write_run_report(done, command="test").read_text()
    (stage,) = [f for f in done.stages if f.stage.name.startswith("align")]
    return done, read_metrics(stage.path), page


@pytest.mark.parametrize(
    "name",
    [
        *("flow_grpo", "flow_dpo", "diffusion_nft"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("awm", "flow_rwr", "flow_sft")),
    ],
)
def test_a_policy_learns_from_clips_of_its_own(name, workdir, graded):
    done, lines, page = aligned(name, workdir, *RUNS[name])
    assert not [f for f in done.stages if f.stage.name.startswith("label-train")]
    for line in lines:
        assert 0 < line["reward/visual_quality"] < 1
        assert 0 <= line["zero_spread_groups"] <= 1
        assert np.isfinite(line["loss"])
        assert line["grad_norm"] > 0
        assert line["failed/visual_quality"] == 0
    rewards = [line["reward/text_alignment"] for line in lines]
    if name == "flow_grpo":  # two steps learn from one drawing
        assert rewards[0] == rewards[1]
        assert rewards[2] == rewards[3]
        assert lines[0]["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert all(0 < line["look/colour"] < 1 for line in lines)
        assert max(line["sampler_gap"] for line in lines[::2]) < 1e-4
    if name in FROM_ADVANTAGES:
        assert lines[0]["error"] == pytest.approx(lines[0]["error_old"], rel=1e-5)
        assert lines[1]["error"] != lines[1]["error_old"]  # until the next drawing
    if name == "diffusion_nft":
        first, second, third, _ = (line["distance"] for line in lines)
        assert first < 1e-3 * second
        assert third > 1e-3 * second  # the old policy only follows
        # it starts at the pre-trained policy, from which both come away
        assert lines[0]["divergence"] < 1e-3 * lines[1]["divergence"]
        assert lines[0]["divergence_old"] == lines[1]["divergence_old"] == 0
        assert 0 < lines[2]["divergence_old"] < lines[3]["divergence"]
    if name == "awm":
        assert lines[2]["error"] == pytest.approx(lines[2]["error_old"], rel=1e-5)
        assert [line["ratio"] == pytest.approx(1, abs=1e-6) for line in lines][::2] == [True, True]
    assert name in page


class Drifting:
    """Scores that move by a tenth at every drawing; one that is killed at a drawing."""

    dimensions = ("accept", "visual_quality", "motion_quality", "text_alignment")

    def __init__(self, way, drawn=0, killed_at=None):
        self._way, self._drawn, self._killed_at = way, drawn, killed_at

    def score(self, clips, prompts):
        self._drawn += 1
        if self._drawn == self._killed_at:
            raise KeyboardInterrupt
        scores = np.full(len(clips), 0.5 + self._way * 0.1 * self._drawn, np.float32)
        scores += np.linspace(0, 0.01, len(clips), dtype=np.float32)
        return Judgement(dict.fromkeys(self.dimensions, scores), [""] * len(clips))


def test_training_ends_where_reward_and_truth_part(workdir, graded, monkeypatch):
    """The mean over 8 drawings falls at the ninth; a run that was killed ends at the same step."""
    few = ("align.online.watch=verifier", "align.online.on_fall=stop", "align.train.steps=20")
    few += ("align.train.checkpoint_every=3", "align.online.window=(0,1)")

    def run(drawn=0, killed_at=None):
        judges = iter([Drifting(1, drawn, killed_at), Drifting(-1, drawn)])
        monkeypatch.setattr(fresh_clips, "build_reward", lambda *_: next(judges))
        return aligned("flow_grpo", workdir, *few)

    with pytest.raises(KeyboardInterrupt):
        run(killed_at=5)
    done, lines, page = run(drawn=3)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[3]["reward/visual_quality"] == pytest.approx(0.905, abs=1e-3)
    (stage,) = [f for f in done.stages if f.stage.name.startswith("align")]
    account = json.loads((stage.path / "watch.json").read_text())
    assert (account["parted_at"], account["trained"], account["asked"]) == (9, 8, 20)
    assert "training ends after 8 of 20 steps" in page
    assert "steps that were trained" in page
    assert [f.stage.name for f in done.stages][-1] == "label-evaluation-flow_grpo"
    assert all(f.reused for f in rounds.run(done.recipe.config, workdir).stages)
