"""What a config cannot mean is refused before anything is computed."""

import pytest
from ml_collections import ConfigDict

from vidpref.config.by_name import config_names
from vidpref.generation.adopt import load_config
from vidpref.runs import checks, rounds

# Shapes alone are computed here, and of small networks they are computed quickly.
SMALL = ("model.dit.width=32", "model.dit.layers=1", "model.dit.head_dim=16")
# The paper scale's judge is a server, and building it asks nothing of it; T5 wants a folder.
REAL = (
    "reward.remote_judge.base_url=http://127.0.0.1:1/v1",
    "reward.remote_judge.model=some",
    "text.name=words",
)


def load(name, *overrides):
    return load_config(f"{name}:mini", [*SMALL, *overrides])


def with_align(config, **fields):
    config = ConfigDict(config.to_dict())
    for name, value in fields.items():
        config.align[name] = ConfigDict(value) if isinstance(value, dict) else value
    return config


@pytest.mark.parametrize(("scale", "overrides"), [("mini", ()), ("paper", REAL)])
@pytest.mark.parametrize("name", config_names())
def test_every_config_passes(name, scale, overrides):
    config = load_config(f"{name}:{scale}", overrides)
    checks.check(config)
    assert rounds.count_stages(config) >= 8


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("flow_dpo", ["align.beta=0.0"], "beta=0.0 must be > 0"),
        ("ipo_kto", ["align.reference_point=median"], "must be one of mean, per_class, mismatch"),
        ("flow_dpo", ["align.rows=pears"], "align.rows='pears': known are all, pairs"),
        ("flow_dpo", ["align.rows=all"], "takes 2 or more clips a row, the rows have 1"),
        ("flow_dpo", ["align.rows=real_and_samples"], "needs config.align.real_clips"),
        ("realdpo", ["align.rows=pairs"], "needs config.align.pairs"),
        ("realdpo", ["align.losers=0"], "takes 2 or more clips a row, the rows have 1"),
        ("flow_dpo", ["align.pairs=first"], "align.pairs='first': known are accepted_rejected"),
        ("flow_dpo", ["align.reference=old"], "align.reference='old': known are previous, pret"),
        ("realdpo", ["align.reference=pretrained"], "the reference follows the policy"),
        ("realdpo", ["align.time_range=(0.5, 0.2)"], "want 0 <= low < high <= 1"),
        ("realdpo", ["align.error_in=x1"], "align.error_in='x1': known predictions are x0"),
        ("flow_dpo", ["align.reduction=max"], "align.reduction='max': known are mean, sum"),
        ("flow_dpo", ["align.lora.rank=-1"], "lora.rank=-1: must be 1 or more"),
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
        ("flow_dpo", ["text.name=word"], "text.name='word': did you mean words"),
        ("flow_dpo", ["text.name=t5", "text.padding=none"], "padding='none': known are hidden"),
    ],
)
def test_a_config_that_cannot_work_is_refused(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        checks.check(load(name, *overrides))


def test_real_data_cannot_be_mixed_in_where_there_is_none():
    config = with_align(load("flow_dpo"), real_weight=0.1)
    with pytest.raises(ValueError, match=r"real_weight=0.1 mixes real clips in, but"):
        checks.check(config)


def test_mcdpo_needs_motion_scores_whatever_the_reward():
    config = with_align(load("mcdpo"), reward={"accept": 1.0})
    config.reward.dimensions = ("accept", "object_motion")
    with pytest.raises(ValueError, match="needs scores of 'camera_motion'"):
        checks.check(config)


def test_a_comparison_brings_its_own_number_of_rounds():
    with pytest.raises(ValueError, match="there is no second round"):
        checks.check(load("flow_nrg"), 2)
    checks.check(load("flow_nrg"), 1)


def test_real_clips_against_samples_need_no_judge_of_their_reward():
    config = load("realdpo", "reward.dimensions=('accept',)")
    assert "motion_quality" in config.align.reward
    checks.check(config)
