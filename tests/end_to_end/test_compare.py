"""Methods side by side at a tiny size: what is shared, what is chosen, what is written."""

import json

import pandas as pd
import pytest

from tests.end_to_end.conftest import Fickle
from tests.end_to_end.test_backbones import TINY as TINY_WAN
from tests.end_to_end.test_backbones import write_lines
from tests.end_to_end.tiny import TINY
from vidpref.config.by_name import ConfigError
from vidpref.evaluation.rounds import title
from vidpref.rewards.registry import REWARDS, RewardSpec
from vidpref.runs import compare, report, workdir
from vidpref.training.metrics import read_metrics


def test_two_methods_two_seeds(tmp_path, fickle, capfd):
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
    for heading in ("Methods", "Hyper-parameters", "Rounds", "Method minus method", "Training"):
        assert f"## {heading}" in text
    between = evaluation["between_methods"]["1"]["test"]["accept"]
    assert between["sft"]["dpo"]["diff"] == -between["dpo"]["sft"]["diff"]
    differences = pd.read_csv(tmp_path / "differences.csv")
    assert set(differences["method"]) == {"sft", "dpo"}
    assert r"\toprule" in (tmp_path / "comparison.tex").read_text()
    assert set(pd.read_csv(tmp_path / "evaluation.csv")["policy"]) == set(names)
    training = pd.read_csv(tmp_path / "training.csv")
    assert training[["Method", "Seed"]].to_numpy().tolist() == [
        ["SFT", 0],
        ["DPO", 0],
        ["SFT", 1],
        ["DPO", 1],
    ]
    assert "Method minus method" in report.comparison_summary(found, tmp_path)

    # every stage was counted, once; all are kept now, in one line
    lines = [line for line in "".join(capfd.readouterr()).splitlines() if line.startswith("[")]
    count = len(list(tmp_path.glob("*/done.json")))
    assert [line[1:].split(",")[0].split("]")[0] for line in lines] == [
        f"{i + 1}/{count}" for i in range(count)
    ]
    compare.compare(configs, tmp_path, seeds=2, rounds=1)
    said = "".join(capfd.readouterr())
    assert said.splitlines() == [f"[{count} stages kept]"]
    assert workdir.unused(tmp_path) == []
    assert list(pd.read_csv(tmp_path / "methods.csv")["Method"])[1:] != []
    assert "Hyper-parameters" in path.read_text()


@pytest.mark.slow
def test_public_generators_without_a_judge_and_with_one_given_later(
    tmp_path, wan_folder, monkeypatch
):
    pairs = write_lines(tmp_path / "data", [(32, 48)])
    given = [f"model.init={wan_folder}", f"data.pairs={pairs}", *TINY_WAN]
    given += ["data.buckets=()", "align.lora.rank=4"]
    names = ["flow_dpo", "flow_dpo+align.time_power=2"]

    def compared():
        configs = compare.load_configs(names, "wan2_1_1_3b", given)
        found = compare.compare(configs, tmp_path, seeds=1, rounds=1)
        path = report.write_comparison_report(found, configs, tmp_path, command="test")
        return found, path.read_text(), report.comparison_summary(found, tmp_path)

    found, page, summary = compared()
    policies = ("pretrained", "flow_dpo", "flow_dpo+time_power=2")
    assert tuple(found.evaluated) == policies
    for policy in policies:
        assert len(list(tmp_path.glob(f"runs/*/samples/{policy}/*.mp4"))) == 2
    assert page.count("<video") == 6
    training = pd.read_csv(tmp_path / "training.csv")
    assert training["Method"].tolist() == [title(policy) for policy in policies[1:]]
    stages = {f.path for run in found.runs for f in run.stages}
    losses = [
        read_metrics(f.path)[-1]["loss"]
        for run in found.runs
        for f in run.stages
        if f.stage.name.startswith("align")
    ]
    assert training["Loss"].tolist() == losses
    assert "Training" in summary
    assert "## Training" in (tmp_path / "comparison.md").read_text()
    assert not (tmp_path / "evaluation.json").exists()

    # the judge scores the same clips, which are of training prompts alone
    monkeypatch.setitem(REWARDS, "remote_judge", RewardSpec(lambda *_: Fickle()))
    given.append("reward.name=remote_judge")
    found, _, summary = compared()
    assert stages < {f.path for run in found.runs for f in run.stages}
    assert found.frame.groupby("policy").size().tolist() == [2, 2, 2]
    assert "Method minus method, accepted clips, training prompts" in summary
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert "best_of_n" not in evaluation  # a clip a prompt: nothing to choose from


def test_the_same_method_twice_is_refused():
    with pytest.raises(ConfigError, match="dpo is there twice"):
        compare.load_configs(["dpo_aif", "dpo_aif"], "mini", [])
