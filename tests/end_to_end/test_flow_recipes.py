"""Every flow config end to end for a few steps, on the mini world with a moving camera."""

import json

import numpy as np
import pytest

from tests.end_to_end.tiny import TINY_FLOW
from vidpref.generation.adopt import load_config
from vidpref.runs import prompted, report, rounds
from vidpref.training.metrics import read_metrics

REAL = "align.real_clips=8"
CONFIGS = {
    "flow_sft": (),
    "flow_rwr": ("align.lora.rank=0",),
    "flow_dpo": ("align.time_power=2.0", "align.pair_weight=gap"),
    "mcdpo": (),
    "ipo_dpo": (REAL, "rounds=2", "align.reference=pretrained"),
    "ipo_kto": (REAL, "rounds=1", "align.reference_point=mismatched", "align.desirable_weight=2.0"),
    "realdpo": (REAL, "align.train.reference_every=2", "align.time_range=(0.1, 0.9)"),
    "flow_nrg": ("align.layers=1",),
}


def run(name, workdir, *overrides):
    # its samples are drawn for real clips, and not labelled
    tiny = [f for f in TINY_FLOW if not (name == "realdpo" and f.startswith("label."))]
    config = load_config(f"{name}:mini", [*tiny, *overrides])
    done = rounds.run(config, workdir)
    page = report.write_run_report(done, command="test").read_text()
    return done, json.loads((workdir / "evaluation.json").read_text()), page


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """One for all configs: they share data and pre-training."""
    return tmp_path_factory.mktemp("flow")


@pytest.mark.parametrize("name", CONFIGS)
def test_config_runs_end_to_end(name, workdir, graded):
    done, evaluation, page = run(name, workdir, *CONFIGS[name])
    policies = list(evaluation["policies"])
    assert policies[:2] == ["pretrained", name]
    scores = evaluation["dimensions"]["policies"][name]["test"]
    assert set(scores) == {
        "visual_quality",
        "motion_quality",
        "object_motion",
        "camera_motion",
        "text_alignment",
    }
    for score in scores.values():
        low, high = score["ci"]
        assert 0 <= low <= score["mean"] <= high <= 1
    assert "Dimensions, held-out prompts" in page
    trained = next(f for f in done.stages if f.stage.name.startswith(("align", "latent-reward")))
    losses = [record["loss"] for record in read_metrics(trained.path)]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    if name != "flow_nrg":  # clips of an untrained policy are alike: nothing to tell them apart by
        assert len(set(losses)) > 1


def test_more_real_clips_than_there_are_are_refused_before_anything_is_trained(tmp_path, graded):
    with pytest.raises(ValueError, match=r"align.real_clips=999: the data has \d+ clips"):
        run("ipo_dpo", tmp_path, "align.real_clips=999")
    assert not list(tmp_path.glob("pretrain-*"))


def test_guidance_weights_train_no_new_reward_model(workdir, graded):
    run("flow_nrg", workdir, "align.layers=1")
    done, _, _ = run(
        "flow_nrg", workdir, "align.layers=1", "align.scale=50", "align.weights.motion_quality=0.0"
    )
    reused = {f.stage.name: f.reused for f in done.stages}
    assert reused["latent-reward"]
    assert reused["sample-evaluation-pretrained"]
    assert not reused["sample-evaluation-flow_nrg"]


def test_adapters_of_a_second_round_stand_on_those_of_the_first(workdir, graded):
    # nearly untrained clips are alike: only the error itself moves the adapters
    given = ("align.nll_weight=1.0", "align.train.optimizer.learning_rate=0.01")
    run("flow_dpo", workdir, "align.lora.rank=2", "rounds=2", *given)
    recipe, policies = rounds.open_finished(workdir, prompted.MESH)
    assert list(policies) == ["pretrained", "flow_dpo", "flow_dpo_round2"]
    for policy in list(policies.values())[1:]:
        assert not (recipe.folder(policy.stages["policy"]) / "params").exists()
    before, first, second = (
        policy.load()["blocks"]["self"]["qkv"]["kernel"] for policy in policies.values()
    )
    layers, width = before.shape[:2]

    def ranks(difference):
        matrices = np.asarray(difference, np.float64).reshape(layers, width, -1)
        return np.linalg.matrix_rank(matrices, tol=1e-2 * np.abs(matrices).max()).tolist()

    assert ranks(first - before) == [2] * layers
    assert ranks(second - first) == [2] * layers
    assert ranks(second - before) == [4] * layers
