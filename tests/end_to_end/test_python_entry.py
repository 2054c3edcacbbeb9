"""What `import vidpref` offers, on a tiny run: the same as the programs and the files say."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vidpref
from tests.end_to_end.tiny import TINY
from vidpref.rewards.registry import REWARDS
from vidpref.runs import rounds
from vidpref.runs.prompt_scenes import borrow_first_frames, nearest_scene, own_scenes
from vidpref.runs.prompted import MESH, draw, open_policy
from vidpref.stages.sample import read_clips

ROOT = Path(__file__).parents[2]


def test_importing_is_quick_and_brings_no_jax():
    code = "import sys, vidpref; print(dir(vidpref), sorted({'jax', 'numpy'} & {*sys.modules}))"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(" []")
    assert all(repr(name) in done.stdout for name in vidpref.__all__)
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        vidpref.rum  # noqa: B018


def test_a_run_in_python(tmp_path, fickle, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = vidpref.load_config("sft_aif:mini", [*TINY, "wandb=alignments"])
    done = vidpref.run(config, tmp_path)
    assert done.policies == ("pretrained", "sft")
    assert done.report.parent == done.folder
    assert "vidpref.run(config" in done.report.read_text()
    # every training is in W&B
    trained = {path.parents[2].name for path in tmp_path.glob("*/wandb/offline-run-*/*.wandb")}
    assert trained == {path.parent.name for path in tmp_path.glob("*/metrics.jsonl")}
    assert len(trained) == 2

    again = vidpref.open_run(tmp_path)
    assert again.folder == done.folder
    assert vidpref.open_run(done.folder).folder.resolve() == done.folder.resolve()
    numbers = json.loads((tmp_path / "evaluation.json").read_text())
    frame = again.scores
    for policy in done.policies:
        for split in ("train", "test"):
            of = frame[(frame["policy"] == policy) & (frame["split"] == split)]
            assert of["accept"].mean() == numbers["policies"][policy][split]["accept"]
    table = again.evaluation
    row = table[(table.policy == "sft") & (table.split == "test") & table.category.isna()]
    assert len(row) == 1
    assert list(again.tables) == ["evaluation"]
    curves = again.metrics
    assert list(curves["pretrain"].index) == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(curves["pretrain"]["loss"]).all()

    _clips(again)
    _drawn(again, fickle, monkeypatch)


def _clips(done):
    table, clips = done.clips(policy="sft", split="test")
    stored = read_clips(done._recipe.folder(done._recipe.evaluation(done._policies["sft"]).samples))
    assert len(table) == len(clips) == 20
    for clip_id, clip in zip(table["clip_id"], clips, strict=True):
        np.testing.assert_array_equal(clip, stored.clip(clip_id)["video"])
    both, pairs = done.clips(limit=2)  # of both policies, from the same noise
    assert list(both["policy"]) == ["pretrained", "sft"]
    assert both["clip_id"].nunique() == 1
    assert pairs.shape == (2, 8, 16, 16, 3)
    with pytest.raises(ValueError, match="the evaluation clips are of pretrained, sft"):
        done.clips(policy="dpo")


def _drawn(done, fickle, monkeypatch):
    prompts = ["move the red ball left above the white floor"] * 2
    drawn = done.draw(prompts, policy="sft", seed=3)
    recipe, policies = rounds.open_finished(done.workdir, MESH)
    near = [nearest_scene(recipe.inputs.data, prompts[0])] * 2
    wanted = draw(open_policy(recipe, policies["sft"]), borrow_first_frames(prompts, near), seed=3)
    np.testing.assert_array_equal(drawn, [clip for _, clip, _ in wanted])
    assert (drawn[0] != drawn[1]).any()
    with pytest.raises(ValueError, match="takes an image, the first frame"):  # and none in vain
        next(draw(open_policy(recipe, policies["sft"]), own_scenes(["x"]), seed=3))
    image = np.zeros((16, 16, 3), np.uint8)
    black = done.draw(prompts[:1], image=image, per_prompt=2, seed=3)
    assert (black != drawn).any()
    assert (black[0] != black[1]).any()
    for bad, options, why in (
        (prompts, {"policy": "dpo"}, "the run has pretrained, sft"),
        ("one prompt", {}, "give a list"),
        ([], {}, "give a list"),
        (prompts, {"image": image[:8]}, r"\(8, 16\) pixels, the run's clips \(16, 16\)"),
    ):
        with pytest.raises(ValueError, match=why):
            done.draw(bad, **options)

    asked = fickle.asked
    said = done.score(drawn, prompts)
    expected = {
        "prompt": prompts,
        "accept": np.float32([0, 1]),
        "reason": ["every second clip"] * 2,
    }
    pd.testing.assert_frame_equal(said, pd.DataFrame(expected))
    assert fickle.asked == asked + 2
    with pytest.raises(ValueError, match="2 clips: give as many prompts"):
        done.score(drawn, prompts[:1])
    with pytest.raises(ValueError, match=r"\(8, 16\) pixels, the run's clips \(16, 16\)"):
        done.score(drawn, prompts, image=image[:8])

    # a judge that compares first frames is told them
    told, score = {}, fickle.score
    comparing = dataclasses.replace(REWARDS["verifier"], first_frames=True)
    monkeypatch.setitem(REWARDS, "verifier", comparing)
    monkeypatch.setattr(fickle, "score", lambda *args, **given: told.update(given) or score(*args))
    done.score(drawn, prompts)
    assert not told
    done.score(drawn, prompts, image=image)
    np.testing.assert_array_equal(told["first_frames"], [image] * 2)
