"""The whole way of a clip, at a tiny size: DPO over two rounds, the cascade, the report."""

import json

import numpy as np
import pytest

from tests.end_to_end.tiny import TINY
from vidpref.generation.adopt import load_config
from vidpref.runs import prompted, report, rounds
from vidpref.runs.graph import run_stage
from vidpref.runs.methods import open_recipe
from vidpref.runs.stored_clips import clip_sets
from vidpref.stages.label import read_labels
from vidpref.stages.sample import read_clips


def _run(name, workdir, *overrides):
    config = load_config(name, [*TINY, *overrides])
    done = rounds.run(config, workdir)
    path = report.write_run_report(done, command="test")
    return done, json.loads((workdir / "evaluation.json").read_text()), path.read_text()


def _stages(done):
    return {f.stage.name: f.reused for f in done.stages}


def test_dpo_over_two_rounds_and_a_changed_field(tmp_path, fickle):
    done, evaluation, page = _run("dpo_aif:mini", tmp_path, "rounds=2")
    assert list(evaluation["policies"]) == ["pretrained", "dpo", "dpo_round2"]
    assert list(evaluation["paired"]) == ["dpo", "dpo_round2"]
    for splits in evaluation["policies"].values():
        assert set(splits) == {"train", "test"}
        for entry in splits.values():
            assert entry["n"] == 20
            assert entry["prompts"] == 5
            low, high = entry["ci"]
            assert 0 <= low <= entry["accept"] <= high <= 1
            assert sum(c["n"] for c in entry["categories"].values()) == entry["n"]
    for splits in evaluation["paired"].values():
        for entry in splits.values():
            low, high = entry["ci"]
            assert low <= entry["diff"] <= high
    assert "DPO, round 2" in page
    assert "every second clip" in page  # the judge's words
    for text in ("Alignment with DPO, round 2", "Norm of the gradient", "pairs that train",
                 "directional movement", "align.beta", "flax", "Where the time went"):  # fmt: skip
        assert text in page
    assert not any(_stages(done).values())
    asked = fickle.asked
    labels = [read_labels(f.path) for f in done.stages if f.stage.name.startswith("label-")]
    assert asked == sum(map(len, labels))

    done, again, _ = _run("dpo_aif:mini", tmp_path, "rounds=2")
    assert all(_stages(done).values())
    assert again == evaluation
    assert fickle.asked == asked  # what it said is kept, and shown from there

    done, _, _ = _run("dpo_aif:mini", tmp_path, "rounds=2", "align.beta=100")
    reused = _stages(done)
    assert reused["pretrain"]
    assert reused["sample-train-pretrained"]
    assert reused["label-evaluation-pretrained"]
    for stage in ("align-dpo-round1", "sample-train-dpo", "align-dpo-round2"):
        assert not reused[stage]

    # the first run is as it was, though the work directory shows the second
    recipe, _ = rounds.open_finished(tmp_path, prompted.MESH)
    assert recipe.config.align.beta == 100
    folders = sorted((tmp_path / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    recipe, policies = rounds.open_finished(folders[0], prompted.MESH)
    assert recipe.config.align.beta == 5000
    assert recipe.workdir == tmp_path
    assert list(policies) == list(evaluation["policies"])
    assert json.loads((folders[0] / "evaluation.json").read_text()) == evaluation
    assert "every second clip" in (folders[0] / "report.html").read_text()
    assert [s.policy for s in clip_sets(folders[0])][:3] == list(policies)


def test_policies_are_sampled_from_the_same_noise(tmp_path, fickle):
    done, _, _ = _run("sft_aif:mini", tmp_path, "align.train.optimizer.learning_rate=1e-12")
    by_stage = {f.stage.name: f.path for f in done.stages}
    before = read_clips(by_stage["sample-evaluation-pretrained"])
    after = read_clips(by_stage["sample-evaluation-sft"])
    for i in range(len(before)):  # a policy that has not moved draws the same clips
        assert before[i]["clip_id"] == after[i]["clip_id"]
        np.testing.assert_array_equal(before[i]["video"], after[i]["video"])


@pytest.mark.slow  # tests/end_to_end/test_prompted.py runs a cascade too
def test_the_cascade_puts_a_super_resolution_stage_behind_the_base(tmp_path, fickle):
    done, _, page = _run(
        "sft_aif:mini",
        tmp_path,
        "superres.enabled=True",
        "superres.model.unet3d.features=(32,)",
        "superres.model.unet3d.blocks=(1,)",
        "superres.model.unet3d.spatial=(False,)",
        "superres.model.unet3d.temporal=(True,)",
        "superres.model.unet3d.cross=(True,)",
        "superres.train.optimizer.name=adam",
        "superres.train.steps=2",
        "superres.train.batch_size=8",
        "superres.sampler_steps=2",
    )
    by_stage = {f.stage.name: f.path for f in done.stages}
    assert "superres" in by_stage
    clip = read_clips(by_stage["sample-evaluation-sft"])[0]
    assert clip["video"].shape == (8, 16, 16, 3)
    assert clip["video_high"].shape == (8, 32, 32, 3)
    assert "superres" in page


@pytest.mark.slow
def test_the_dit_has_the_same_interface(tmp_path, fickle):
    overrides = ("model.name=dit", "model.dit.width=32", "model.dit.layers=1", "align.gamma=0.5")
    _, evaluation, _ = _run("rwr_aif:mini", tmp_path, *overrides)
    assert set(evaluation["policies"]) == {"pretrained", "rwr"}


def test_the_best_checkpoint_by_validation_acceptance_is_kept(tmp_path, fickle):
    done, _, _ = _run(
        "dpo_aif:mini", tmp_path, "align.train.best_metric=accept", "align.train.checkpoint_every=2"
    )
    (folder,) = (f.path for f in done.stages if f.stage.name == "align-dpo-round1")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "accept" in line] == [2, 4, 6]


def test_no_pairs_is_an_error_that_says_what_to_do(tmp_path, strict):
    with pytest.raises(ValueError, match=r"no prompt gave a preference pair.*6 all rejected"):
        _run("dpo_aif:mini", tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("align.beta=-1", "beta"),
        (
            "reward.name=oracle",
            "known are verifier, remote_judge, metrics, video_reward, vlm_judge, none",
        ),
        ("data.name=imagenet", "known are"),
    ],
)
def test_a_bad_config_is_refused_before_anything_is_computed(tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        _run("dpo_aif:mini", tmp_path, override)
    assert not list(tmp_path.glob("pretrain-*"))


def test_fields_that_are_not_used_redo_nothing(tmp_path, fickle):
    _run("sft_aif:mini", tmp_path)
    unused = ("align.validation.prompts=3", "sampler.batch_size=16", "model.unet3d.unroll=True")
    done, _, _ = _run("sft_aif:mini", tmp_path, *unused, "pretrain.train.log_every=3")
    assert all(_stages(done).values())


def test_a_cascade_switched_on_later_builds_its_own_data(tmp_path):
    for enabled in (False, True):
        config = load_config("sft_aif:mini", [*TINY, f"superres.enabled={enabled}"])
        inputs = open_recipe(config, tmp_path).inputs
        run_stage(inputs.data_stage, tmp_path, print)
        clip = inputs.data.clips[0]
        assert ("video_high" in clip) == enabled
    assert len(list(tmp_path.glob("data-*"))) == 2
