"""Configs and variants of them, named and refused before anything runs."""

import pytest

from vidpref.config.overrides import ConfigError, apply_overrides
from vidpref.runs.compare import compare, load_configs
from vidpref.runs.policies import policy_name


def names(configs):
    return [policy_name(config, 1) for config in configs]


def test_a_variant_is_named_by_what_it_changes():
    spec = "flow_dpo+align.time_power=2+align.train.optimizer.learning_rate=1e-4"
    configs = load_configs(["flow_dpo", "flow_dpo+align.time_power=2", spec], "mini", ["seed=3"])
    assert names(configs) == [
        "flow_dpo",
        "flow_dpo+time_power=2",
        "flow_dpo+time_power=2+learning_rate=1e-4",
    ]
    assert policy_name(configs[1], 2) == "flow_dpo+time_power=2_round2"
    assert [config.align.time_power for config in configs] == [0.0, 2.0, 2.0]
    assert configs[2].align.train.optimizer.learning_rate == 1e-4
    assert [config.seed for config in configs] == [3, 3, 3]


def test_overrides_leave_the_given_config_as_it_was():
    (config,) = load_configs(["flow_dpo"], "mini", [])
    changed = apply_overrides(config, ["align.beta=7", "align.train.steps=5"])
    assert (changed.align.beta, changed.align.train.steps) == (7.0, 5)
    assert config.align.beta != 7.0
    assert config.align.train.steps != 5


@pytest.mark.parametrize(
    "specs",
    [
        ["flow_dpo", "flow_dpo"],
        ["flow_dpo+align.beta=5", "flow_dpo+align.beta=5"],
    ],
)
def test_the_same_name_twice_is_refused(specs):
    with pytest.raises(ConfigError, match="is there twice"):
        load_configs(specs, "mini", [])


def test_methods_of_one_generator_go_together():
    specs = ["flow_sft", "flow_rwr", "flow_dpo", "mcdpo", "ipo_kto", "realdpo", "flow_nrg"]
    assert names(load_configs(specs, "mini", [])) == specs


@pytest.mark.parametrize(
    ("specs", "field"),
    [
        (["flow_dpo", "dpo_aif"], "data"),
        (["flow_dpo", "flow_dpo+sampler.steps=3"], "sampler"),
        (["flow_dpo", "flow_dpo+seed=1"], "seed"),
    ],
)
def test_policies_of_different_generators_or_samplers_are_refused(specs, field):
    with pytest.raises(ConfigError, match=rf"differ in config\.{field}"):
        load_configs(specs, "mini", [])


def test_a_bad_change_names_the_nearest_field():
    with pytest.raises(ConfigError, match=r"did you mean align\.time_power"):
        load_configs(["flow_dpo+align.time_powr=2"], "mini", [])


def load_and_compare(specs, overrides, workdir):
    compare(load_configs(specs, "mini", overrides), workdir, seeds=1, rounds=1)


def refused(specs, message, tmp_path, overrides=()):
    with pytest.raises(ValueError, match=message):
        load_and_compare(specs, overrides, tmp_path)
    assert list(tmp_path.iterdir()) == []  # before anything ran


def test_a_search_without_a_judge_is_refused_before_anything_runs(tmp_path):
    given = ["reward.name=none", "search=('align.beta=1', 'align.beta=2')"]
    refused(["realdpo"], r"realdpo: config\.search .* nobody accepts", tmp_path, given)


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ("align.betta=2", r"did you mean align\.beta"),
        ("align.train.steps=0", r"config\.align\.train\.steps=0"),
        ("align.train.batch_size=3", "batch_size"),
    ],
)
def test_a_candidate_that_cannot_work_is_refused_before_the_first_is_tried(
    candidate, message, tmp_path
):
    search = f"search=('align.beta=1', '{candidate}')"
    refused(["flow_dpo"], message, tmp_path, [search, "mesh.fsdp=8"])


def test_two_policies_of_one_name_are_refused(tmp_path):
    specs = ["flow_dpo", "flow_dpo+align.policy=flow_dpo_round2"]
    configs = load_configs(specs, "mini", [])
    configs[1] = apply_overrides(configs[1], ["align.policy=flow_dpo_round2"])
    with pytest.raises(ConfigError, match="would be called flow_dpo_round2"):
        compare(configs, tmp_path, seeds=1, rounds=2)


def test_methods_that_need_other_scores_are_judged_on_all_of_them():
    specs = ["flow_dpo", "flow_dpo+align.time_power=2"]
    own = ["reward.dimensions=()", "align.reward.visual_quality=0"]
    plain = load_configs(specs, "mini", own)
    assert [config.reward.dimensions for config in plain] == [(), ()]  # as they were
    specs = ["flow_dpo", "flow_dpo+align.reward.visual_quality=1"]
    one, other = load_configs(specs, "mini", own)
    assert one.reward.dimensions == other.reward.dimensions
    assert {"accept", "visual_quality"} <= set(one.reward.dimensions)
