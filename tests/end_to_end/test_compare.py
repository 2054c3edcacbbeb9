"""Methods side by side at a tiny size: what is shared, what is chosen, what is written."""

import json

import pandas as pd
import pytest

from tests.end_to_end.tiny import TINY
from vidpref.config.by_name import ConfigError
from vidpref.runs import compare, report


def test_two_methods_two_seeds(tmp_path, fickle):
    rate = "align.train.optimizer.learning_rate"
    overrides = [*TINY, f"search=('{rate}=1e-4', '{rate}=1e-3')"]
    configs = compare.load_configs(["sft_aif", "dpo_aif"], "mini", overrides)
    found = compare.compare(configs, tmp_path, seeds=2, rounds=1)
    path = report.write_comparison_report(found, configs, tmp_path, command="test")

    # one pre-training a seed, one labelled set a seed and policy to sample from
    assert len(list(tmp_path.glob("pretrain-*"))) == 2
    assert len(list(tmp_path.glob("sample-train-pretrained-*"))) == 2
    assert len(list(tmp_path.glob("data-*"))) == 1

    assert [c.policy for c in found.candidates] == ["sft", "sft", "dpo", "dpo"]
    for method in ("sft", "dpo"):
        tried = [c for c in found.candidates if c.policy == method]
        assert sum(c.chosen for c in tried) == 1
        assert max(tried, key=lambda c: c.validation).validation == next(
            c.validation for c in tried if c.chosen
        )

    names = ["pretrained", "sft", "dpo"]
    counts = found.frame.groupby(["policy", "training_seed"]).size()
    assert (counts == 40).all()
    assert set(counts.index) == {(name, seed) for name in names for seed in (0, 1)}
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(evaluation["policies"]) == set(names)
    assert evaluation["paired"]["dpo"]["test"]["over"] == "seeds and prompts"

    text = (tmp_path / "comparison.md").read_text()
    for title in ("Methods", "Hyper-parameters", "Rounds"):
        assert f"## {title}" in text
    assert list(pd.read_csv(tmp_path / "methods.csv")["Method"])[1:] != []
    assert "Hyper-parameters" in path.read_text()


def test_the_same_method_twice_is_refused():
    with pytest.raises(ConfigError, match="dpo is there twice"):
        compare.load_configs(["dpo_aif", "dpo_aif"], "mini", [])
