"""PRFL and VADER end to end: their judges are trained on the way, and stand still afterwards."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.end_to_end.tiny import TINY_FLOW, TINY_JUDGE
from vidpref.generation.adopt import load_config
from vidpref.rewards.video_reward import VideoReward
from vidpref.runs import fresh_clips, report, rounds
from vidpref.runs.methods import open_recipe
from vidpref.training.metrics import read_metrics

ONLINE = (
    *("align.online.prompts=12", "align.online.watch=verifier", "align.real_clips=8"),
    *("align.train.optimizer.warmup_steps=0", "align.train.optimizer.learning_rate=0.01"),
)
RATE = "align.reward_train.optimizer"
# Clips of a generator that has learnt next to nothing are alike, and a judge sees no difference.
LEARNT = "pretrain.train.optimizer.learning_rate=3e-2"
OVERALL = ("visual_quality", "motion_quality", "text_alignment")


def run(name, workdir, *overrides):
    config = load_config(f"{name}:mini", [*TINY_FLOW, *ONLINE, *overrides])
    done = rounds.run(config, workdir)
    page = report.write_run_report(done, command="test").read_text()
    (stage,) = [f for f in done.stages if f.stage.name.startswith("align")]
    return done, read_metrics(stage.path), page


def check_lines(lines):
    for line in lines:
        assert np.isfinite(line["loss"])
        assert line["grad_norm"] > 0
        assert 0 <= line["truth/accept"] <= 1
        assert 0 < line["look/colour"] < 1
        of = np.mean([line[f"reward/{name}"] for name in OVERALL])
        assert line["reward"] == pytest.approx(of, rel=1e-4, abs=1e-5)


def test_prfl(tmp_path, graded):
    few = (
        *("align.layers=1", "align.reward_train.steps=3", "align.reward_train.batch_size=8"),
        *(f"{RATE}.learning_rate=0.05", f"{RATE}.warmup_steps=0", LEARNT),
    )
    done, lines, page = run("prfl", tmp_path, *few)
    check_lines(lines)
    assert len({line["proxy"] for line in lines}) == len(lines)
    # two steps: only the first leads to a noisy clip
    times = done.recipe.generator.process.sampling_times(2)
    assert all(line["judged_at"] == pytest.approx(times[1]) for line in lines)
    assert all(line["error_real"] > 0 for line in lines)
    names = [f.stage.name for f in done.stages]
    assert names.index("latent-reward") < names.index("align-prfl-round1")
    assert "prfl" in page
    # another learning rate of the policy leaves the reward as it is
    other = [*TINY_FLOW, *ONLINE, *few, "align.train.optimizer.clip_norm=0.5"]
    other = load_config("prfl:mini", other)
    stages = {s.name: s.folder for s in open_recipe(other, tmp_path).stages(1)}
    before = {f.stage.name: f.stage.folder for f in done.stages}
    assert stages["latent-reward"] == before["latent-reward"]
    assert stages["align-prfl-round1"] != before["align-prfl-round1"]


@pytest.mark.slow
def test_vader(tmp_path):
    few = ("align.real_weight=0.1", "align.online.last=2", "align.online.seen=2")
    done, lines, page = run("vader", tmp_path, *TINY_JUDGE, *few, LEARNT)
    check_lines(lines)
    for line in lines:  # the clips that a step learns from are those that were drawn
        assert line["proxy"] == pytest.approx(line["reward"], rel=1e-4, abs=1e-5)
        assert line["error_real"] > 0
    assert "vader" in page
    names = [f.stage.name for f in done.stages]
    assert names.index("judge") < names.index("align-vader-round1")

    # with all frames, what pulls is what the judge of the labels says of the bytes
    recipe = done.recipe
    with recipe.config.unlocked():
        recipe.config.align.online.seen = 0
    inside = fresh_clips.judge_of_pixels(recipe)
    own = recipe.config.reward.video_reward
    folder = str(recipe.judge_folders["judge"] / "judge")
    outside = VideoReward(folder, OVERALL, fps=own.fps, dtype="float32")
    clips = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 16, 3)).astype(np.uint8)
    prompts = [scene.text for scene in recipe.inputs.data.scenes("train", 2)]
    rows = [inside.rows(prompts)[prompt] for prompt in prompts]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    params = fresh_clips.load_judge(recipe, inside)
    state = jnp.asarray(clips / 127.5 - 1.0, jnp.float32)
    found = inside.reward(params, state, jnp.zeros(2), batch)
    wanted = outside.score(clips, prompts).scores
    for i, name in enumerate(inside.dimensions):
        np.testing.assert_allclose(found[:, i], wanted[name], rtol=1e-3, atol=1e-3)
