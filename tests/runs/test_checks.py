"""What a config cannot mean is refused before anything is computed."""

import shutil

import pytest

from tests.data_folders import paths_for
from vidpref.config.by_name import config_names
from vidpref.config.overrides import apply_overrides
from vidpref.generation.adopt import load_config
from vidpref.runs import checks
from vidpref.runs.methods import open_recipe

# Shapes alone are computed here, and of small networks they are computed quickly.
SMALL = {
    "dit": ("model.dit.width=32", "model.dit.layers=1", "model.dit.head_dim=16"),
    "unet3d": (),
}
# The paper scale's judge is a server, and building it asks nothing of it; T5 wants a folder.
REAL = (
    "reward.name=remote_judge",
    "reward.remote_judge.base_url=http://127.0.0.1:1/v1",
    "reward.remote_judge.model=some",
    "text.name=words",
)
OWN_JUDGES = ("videoalign", "vader", "ipo", "mcsc")  # of tests/runs/test_own_judge.py


def load(name, *overrides):
    config = load_config(f"{name}:mini")
    guide = ["align.layers=1"] if config.align.method == "nrg" else []
    return apply_overrides(config, [*SMALL[config.model.name], *guide, *overrides])


@pytest.mark.parametrize(("scale", "overrides"), [("mini", ()), ("paper", REAL)])
@pytest.mark.parametrize("name", [name for name in config_names() if name not in OWN_JUDGES])
def test_every_config_passes(name, scale, overrides, tmp_path):
    data = load_config(f"{name}:{scale}").data.name
    config = load_config(f"{name}:{scale}", [*overrides, *paths_for(data, tmp_path)])
    checks.check(config)
    assert len(open_recipe(config, tmp_path).stages(config.rounds)) >= 7


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("flow_dpo", ["align.beta=0.0"], "align.beta=0.0: must be > 0"),
        ("dpo_aif", ["reward.name=metrics"], "metrics accepts and rejects nothing; pair the best"),
        (
            "rwr_aif",
            ["reward.name=metrics", "reward.dimension=clip_score"],
            r"config\.reward\.metrics\.clip_score\.folder is empty: say where the weights of clip",
        ),
        ("ipo_kto", ["align.reference_point=median"], "known are mean, balanced, mismatch"),
        ("flow_dpo", ["align.rows=pears"], "align.rows='pears': known are all, pairs"),
        ("flow_dpo", ["align.rows=all"], "takes 2 or more clips a row, the rows have 1"),
        ("realdpo", ["align.losers=0"], "takes 2 or more clips a row, the rows have 1"),
        ("flow_dpo", ["align.pairs=first"], "align.pairs='first': known are accepted_rejected"),
        ("flow_dpo", ["align.reference=old"], "align.reference='old': known are previous, pret"),
        ("realdpo", ["align.reference=pretrained"], "the reference follows the policy"),
        ("realdpo", ["align.time_range=(0.5, 0.2)"], "want 0 <= low < high <= 1"),
        ("realdpo", ["align.error_in=x1"], "align.error_in='x1': known are '', x0"),
        ("flow_dpo", ["align.reduction=max"], "align.reduction='max': known are mean, sum"),
        ("flow_dpo", ["align.lora.rank=-1"], "lora.rank=-1: must be >= 0"),
        ("flow_dpo", ["align.lora.zero=c"], "lora.zero='c'"),
        (
            "flow_dpo",
            [r"align.lora.targets=('self/qkw/',)"],
            "lora.targets: 'self/qkw/' matches no dense layer; did you mean .*self/qkv/kernel",
        ),
        ("flow_dpo", ["align.lora.rank=64"], "lora.rank=64 is more than"),
        ("flow_nrg", ["rounds=2"], "trains no generator: there is no second round"),
        ("flow_nrg", ["align.guide_at=dirty"], "guide_at='dirty': known are noise, clean"),
        ("flow_nrg", ["reward.dimensions=('accept',)"], "needs scores of 'visual_quality'"),
        ("mcdpo", ["reward.dimensions=('accept',)"], "needs scores of 'motion_quality'"),
        ("flow_dpo", ["diffusion.name=flown"], "diffusion.name='flown': known are ddpm, flow"),
        ("flow_dpo", ["text.name=t5"], "text.path='' is no folder"),
        ("realdpo", ["data.name=video_folder"], "reward.name='verifier' judges miniworld alone"),
        (
            "flow_dpo",
            ["align.pair_weight=probability"],
            "rows='pairs' has no probabilities of pairs.*use pair_weight='gap'",
        ),
        ("flow_dpo", ["text.name=word"], "text.name='word': known are words"),
        ("flow_dpo", ["evaluate.best_of=(8, 4)"], r"best_of=\(8, 4\): .* best is more than of"),
        ("flow_dpo", ["text.name=t5", "text.padding=none"], "padding='none': known are hidden"),
    ],
)
def test_a_config_that_cannot_work_is_refused(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        checks.check(load(name, *overrides))


def test_mcdpo_needs_motion_scores_whatever_the_reward():
    alone = ["align.reward.accept=1", "reward.dimensions=('accept', 'object_motion')"]
    zeros = [f"align.reward.{name}=0" for name in ("visual_quality", "motion_quality")]
    config = load("mcdpo", *alone, *zeros, "align.reward.text_alignment=0")
    with pytest.raises(ValueError, match="needs scores of 'camera_motion'"):
        checks.check(config)


def test_what_the_alignment_needs_is_scored_where_nothing_else_is_said(tmp_path):
    config = load("dpo_aif", "align.reward.text_alignment=1.0", "align.pairs=best_worst")
    checks.check(config)
    judged = open_recipe(config, tmp_path).judged.dimensions
    assert judged == ("accept", "text_alignment")


def test_a_comparison_brings_its_own_number_of_rounds():
    with pytest.raises(ValueError, match="there is no second round"):
        checks.check(load("flow_nrg", "align.layers=1"), 2)
    checks.check(load("flow_nrg", "align.layers=1"), 1)


def test_real_clips_against_samples_need_no_judge_of_their_reward():
    config = load("realdpo", "reward.dimensions=('accept',)")
    assert "motion_quality" in config.align.reward
    checks.check(config)


def test_weights_that_are_not_there_are_refused_before_any_stage(wan_folder, tmp_path):
    shutil.copytree(wan_folder, tmp_path / "wan")
    config = load_config("flow_dpo:wan2_1_1_3b", [f"model.init={tmp_path / 'wan'}"])
    (tmp_path / "wan" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"/vae has no diffusion_pytorch_model.safetensors"):
        checks.check(config)
