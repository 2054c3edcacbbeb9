"""Runs that train the judge which they ask: their stages, what these depend on, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.language.reward_rows import write_tiny_model
from vidpref.generation.adopt import load_config
from vidpref.runs import checks
from vidpref.runs.methods import open_recipe

JUDGE = ["judged-clips", "judge-base", "judge"]


def stages(*overrides):
    config = load_config("videoalign:mini", overrides)
    return {s.name: s for s in open_recipe(config, Path("nowhere")).stages(config.rounds)}


def test_the_judge_is_an_input_of_labels_and_the_verifier_of_none():
    checks.check(load_config("videoalign:mini"))
    found = stages()
    assert [name for name in found if name.startswith("judge")] == JUDGE
    for name, stage in found.items():
        if name.startswith("label-"):
            assert stage.inputs["judge"] is found["judge"]
    judged = found["judged-clips"]
    assert {stage.name for stage in judged.inputs.values()} == {
        *("sample-train-pretrained", "verify-train-pretrained"),
        *("sample-validation-pretrained", "verify-validation-pretrained"),
        *("sample-evaluation-pretrained", "verify-evaluation-pretrained"),
    }
    truth = found["verify-evaluation-videoalign"]
    assert set(truth.inputs) == {"samples"}
    assert truth.causes["reward.name"] == "verifier"
    assert not [name for name in truth.causes if name.startswith("reward.video_reward")]
    without = stages("evaluate.verifier=False")
    assert set(found) - set(without) == {"verify-evaluation-videoalign"}
    assert all(without[name].folder == found[name].folder for name in without)


def test_another_judge_labels_anew_and_draws_nothing_anew():
    before, after = stages(), stages("judge.loss=bt")
    same = {name for name in before if before[name].folder == after[name].folder}
    assert {"pretrain", "sample-train-pretrained", "sample-evaluation-pretrained"} <= same
    assert {"judged-clips", "judge-base", "verify-evaluation-pretrained"} <= same
    changed = {"judge", "label-train-pretrained", "label-evaluation-pretrained"}
    assert changed | {"align-videoalign-round1"} <= set(before) - same
    faster = stages("judge.score_batch=8", "reward.video_reward.batch_size=8")
    assert [s.folder for s in faster.values()] == [s.folder for s in before.values()]


def test_a_judge_of_rendered_clips_needs_no_generator():
    found = stages("judge.world.clips=rendered")
    assert [name for name in found if name.startswith("judge")] == ["judged-world", *JUDGE[1:]]
    assert not found["judged-world"].inputs
    assert "verify-train-pretrained" not in found
    with pytest.raises(ValueError, match=r"judge\.world\.prompts would change nothing"):
        stages("judge.world.prompts=4")


def test_a_training_that_asks_the_judge_on_the_way_depends_on_it():
    more = "align.train.best_metric=overall"
    assert stages(more)["align-videoalign-round1"].inputs["judge"].name == "judge"
    assert "judge" not in stages()["align-videoalign-round1"].inputs


def test_a_run_with_the_verifier_shares_pretraining_and_first_clips():
    config = load_config("flow_dpo:mini")
    plain = {s.name: s.folder for s in open_recipe(config, Path("nowhere")).stages(1)}
    own = stages()
    for name in ("data", "text", "pretrain", "sample-train-pretrained"):
        assert own[name].folder == plain[name]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reward.video_reward.folder=/x"], r"another one: .*video_reward\.folder='/x'\. Set"),
        (["reward.name=verifier"], r"another one: config\.reward\.name='verifier'\. Set"),
        (["reward.name=none"], r"another one: config\.reward\.name='none'"),
        (["judge.name="], r"folder is empty: give .*; or config\.judge\.name"),
        (["reward.video_reward.base=/x"], r"base='/x': .* has that of config\.judge\.base"),
        (["reward.video_reward.template=/x"], r"template='/x': .* that of config\.judge\.template"),
        (["reward.video_reward.fps=0"], "how many frames a second the drawn clips have"),
        (["reward.dimensions=('overall','camera_motion')"], "does not score 'camera_motion'"),
        (["reward.dimension=accept"], "dimension='accept': video_reward scores overall"),
        (["align.reward.object_motion=1.0"], "config.align needs scores of 'object_motion'"),
        (["judge.scratch.width=40"], r"config\.judge\.scratch: width=40 must be a multiple"),
        (["judge.template=/nowhere.txt"], "no such file of a reward model's template"),
    ],
)
def test_what_cannot_be_is_refused(overrides, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        checks.check(load_config("videoalign:mini", overrides))


def test_the_batch_of_the_judge_is_checked_for_the_mesh():
    config = load_config("videoalign:mini", ["judge.train.batch_size=3"])
    with pytest.raises(ValueError, match="judge: batch_size=3: must be a multiple"):
        checks.check_training(config, open_recipe(config, Path("nowhere")).mesh)


@pytest.mark.parametrize(
    ("name", "judges"),
    [
        ("aif", ["judge"]),
        ("ipo", ["judge"]),
        ("mcsc", ["judge", "judge-reasons", "judge-reasoning", "judge-hierarchy"]),
    ],
)
def test_judges_that_answer_are_trained_and_asked(name, judges):
    config = load_config(f"{name}:mini")
    checks.check(config)
    found = {s.name: s for s in open_recipe(config, Path("nowhere")).stages(config.rounds)}
    made = [stage for stage in found if stage.startswith("judge")]
    assert made == ["judged-clips", "judge-base", *judges]
    for stage_name, stage in found.items():
        if stage_name.startswith("label-"):
            assert stage.inputs["judge"] is found[judges[-1]]
    with pytest.raises(ValueError, match=r"another one: .*vlm_judge\.folder='/x'\. Set"):
        checks.check(load_config(f"{name}:mini", ["reward.vlm_judge.folder=/x"]))


def test_vader_learns_through_the_judge_that_its_run_trains():
    config = load_config("vader:mini")
    checks.check(config)
    found = {s.name: s for s in open_recipe(config, Path("nowhere")).stages(1)}
    assert found["align-vader-round1"].inputs["judge"] is found["judge"]
    assert "label-train-pretrained" not in found


@pytest.mark.parametrize(
    ("name", "judge"),
    [("videoalign", "judge"), ("vader", "judge"), ("ipo", "judge"), ("mcsc", "judge-hierarchy")],
)
def test_the_paper_scale_passes_with_what_users_give(name, judge, request, tmp_path):
    folder = request.getfixturevalue("cogvideox_folder" if name == "ipo" else "wan_folder")
    (tmp_path / "clips").mkdir()
    for clip in "ab":
        (tmp_path / "clips" / f"{clip}.mp4").write_bytes(clip.encode() * 100)
    row = {"prompt": "a", "clip_a": "clips/a.mp4", "clip_b": "clips/b.mp4", "verdict": "A"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    base = tmp_path / "tiny-qwen2-vl"
    write_tiny_model(base, np.random.default_rng(0), 0.1)
    sizes = ["data.frames=9", "data.height=32", "data.width=48", "data.buckets=()"]
    sizes += ["align.lora.rank=3"]
    given = [f"model.init={folder}", f"data.pairs={tmp_path / 'pairs.jsonl'}", *sizes]
    config = load_config(f"{name}:paper", [*given, f"judge.base={base}"])
    checks.check(config)
    found = {s.name: s for s in open_recipe(config, tmp_path).stages(1)}
    asks = "align-vader-round1" if name == "vader" else "label-train-pretrained"
    assert list(found).index(judge) < list(found).index(asks)
    assert found[judge].inputs["data"] is found["latents"].inputs["data"]
    assert not [name for name in found if name.startswith("verify-")]
    with pytest.raises(ValueError, match=r"judge\.base is empty: give the folder of a Qwen2-VL"):
        checks.check(load_config(f"{name}:paper", given))
