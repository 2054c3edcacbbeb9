"""Configs by name, and what a user reads after a typing mistake."""

import pytest

from vidpref.config.by_name import config_names
from vidpref.config.describe import list_configs
from vidpref.config.overrides import ConfigError, split_overrides
from vidpref.generation.adopt import load_config


@pytest.mark.parametrize("name", config_names())
@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_every_config_loads_at_every_scale(name, scale):
    config = load_config(f"{name}:{scale}")
    assert (config.name, config.scale) == (name, scale)
    assert config.is_locked


def test_scale_defaults_to_paper():
    assert load_config("dpo_aif").scale == "paper"


def test_paper_constants_of_aif_appendix_a():
    config = load_config("dpo_aif:paper")
    assert config.align.beta == 5000
    assert config.align.train.steps == 10_000
    assert config.pretrain.train.steps == 125_000
    for train in (config.align.train, config.pretrain.train):
        assert train.batch_size == 64
        assert train.optimizer.name == "adam"
        assert train.optimizer.learning_rate == 1e-4
        assert train.optimizer.warmup_steps == 10_000
        assert train.optimizer.clip_norm == 1.0
    assert (config.data.frames, config.data.height, config.data.width) == (16, 24, 40)
    assert (config.data.high_height, config.data.high_width) == (192, 320)
    assert (config.text.length, config.text.dim) == (64, 4096)
    assert config.label.per_prompt == 128
    assert tuple(config.evaluate.best_of) == (8, 32)


def test_overrides_take_the_type_of_the_field():
    config = load_config(
        "dpo_aif:mini", ["align.beta=500", "model.name=dit", "evaluate.best_of=(2,4)", "rounds=2"]
    )
    assert config.align.beta == 500.0
    assert isinstance(config.align.beta, float)
    assert config.model.name == "dit"
    assert config.evaluate.best_of == (2, 4)
    assert config.rounds == 2


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("dpo_aiff", [], "did you mean dpo_aif"),
        ("dpo_aif:min", [], "did you mean mini"),
        ("nothing_like_it", [], "known: "),
        ("dpo_aif:mini", ["align.betta=3"], "did you mean align.beta"),
        ("dpo_aif:mini", ["beta=3"], "did you mean align.beta"),
        ("dpo_aif:mini", ["align.beta=much"], "could not convert"),
        ("dpo_aif:mini", ["align.beta"], "write --config.align.beta=VALUE"),
    ],
)
def test_mistakes_name_the_nearest_right_thing(spec, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(spec, overrides)


def test_split_overrides():
    argv = ["--config=dpo_aif", "--config.align.beta=5", "--workdir=x"]
    assert split_overrides(argv) == (["align.beta=5"], ["--config=dpo_aif", "--workdir=x"])


def test_list_names_paper_and_scales():
    text = list_configs()
    for name in config_names():
        assert f"{name}:{{mini|paper" in text
    assert "flow_dpo:{mini|paper|wan2_1_1_3b|wan2_1_14b|wan2_1_i2v_14b}" in text
    assert text.count("paper: ") == len(config_names())
