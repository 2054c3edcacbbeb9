"""The graph of a config: which stages there are, and judges that are made by a stage."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.stages.sampled_clips import write_sampled
from vidpref.generation.adopt import load_config
from vidpref.rewards.registry import REWARDS, RewardSpec
from vidpref.rewards.reward import Judgement
from vidpref.runs import recipe as recipes
from vidpref.runs.graph import Stage, run_stage
from vidpref.runs.methods import open_recipe
from vidpref.stages.label import read_labels

ONE_ROUND = [
    *("data", "text", "pretrain", "sample-train-pretrained", "label-train-pretrained"),
    "align-dpo-round1",
    *("sample-evaluation-pretrained", "label-evaluation-pretrained"),
    *("sample-evaluation-dpo", "label-evaluation-dpo"),
]


def names(spec, *overrides):
    config = load_config(spec, overrides)
    return [stage.name for stage in open_recipe(config, Path("nowhere")).stages(config.rounds)]


def test_stages_of_a_run_in_their_order():
    assert names("dpo_aif:mini") == ONE_ROUND


@pytest.mark.parametrize(
    ("spec", "overrides", "more", "fewer"),
    [
        ("dpo_aif:mini", ["superres.enabled=True"], {"superres"}, set()),
        (
            "dpo_aif:mini",
            ["rounds=2"],
            {"sample-train-dpo", "label-train-dpo", "align-dpo-round2"}
            | {f"{stage}-evaluation-dpo_round2" for stage in ("sample", "label")},
            set(),
        ),
        (
            "realdpo:mini",
            [],
            {"sample-losers-pretrained"},
            {"sample-train-pretrained", "label-train-pretrained"},
        ),
        ("flow_nrg:mini", [], {"latent-reward"}, {"align-dpo-round1"}),
    ],
)
def test_stages_follow_the_config(spec, overrides, more, fewer):
    method = spec.split(":")[0].replace("_aif", "")
    expected = {name.replace("-dpo", f"-{method}") for name in ONE_ROUND}
    fewer = {name.replace("-dpo", f"-{method}") for name in fewer}
    assert set(names(spec, *overrides)) == expected - fewer | more


class Brightness:
    """A judge that another stage made: it accepts clips brighter than what that stage wrote."""

    dimensions = ("accept",)

    def __init__(self, folder):
        self.limit = json.loads((folder / "limit.json").read_text())

    def score(self, clips, prompts):
        light = np.asarray(clips).mean(axis=(1, 2, 3, 4))
        return Judgement(
            {"accept": (light > self.limit).astype(np.float32)}, [f"light {v:.0f}" for v in light]
        )


@pytest.fixture
def trained_judge(monkeypatch):
    spec = RewardSpec(lambda section, dims, made: Brightness(made["limit"]), artifacts=("limit",))
    monkeypatch.setitem(REWARDS, "verifier", spec)

    def use(limit):
        def stage(recipe):
            def body(folder):
                (folder / "limit.json").write_text(json.dumps(limit))

            return Stage("train-judge", body, {"limit": limit})

        monkeypatch.setitem(recipes.ARTIFACTS, "limit", stage)

    return use


def test_a_judge_that_a_stage_makes_is_an_input_of_the_labels(trained_judge, tmp_path, monkeypatch):
    trained_judge(100)
    config = load_config("dpo_aif:mini")
    recipe = open_recipe(config, tmp_path)
    stages = {stage.name: stage for stage in recipe.stages(1)}
    order = list(stages)
    assert order.index("train-judge") < order.index("label-train-pretrained")
    label = stages["label-evaluation-pretrained"]
    assert label.inputs["limit"] is stages["train-judge"]

    def draw(folder, *_, **__):
        clips = np.stack([np.full((2, 4, 4, 3), v, np.uint8) for v in (50, 150)])
        write_sampled(folder, clips)

    run_stage(stages["train-judge"], tmp_path, print)
    samples = stages["sample-evaluation-pretrained"]
    run_stage(Stage(samples.name, draw, samples.causes, samples.inputs), tmp_path, print)
    done = run_stage(label, tmp_path, print)
    labels = read_labels(done.path)
    assert labels["score"].tolist() == [0.0, 1.0]
    assert labels["rationale"].tolist() == ["light 50", "light 150"]

    trained_judge(200)  # another judge: what it judged is judged anew, and nothing else changes
    again = {stage.name: stage for stage in open_recipe(config, tmp_path).stages(1)}
    assert again["sample-evaluation-pretrained"].folder == samples.folder
    assert again["label-evaluation-pretrained"].folder != label.folder
    assert again["align-dpo-round1"].folder != stages["align-dpo-round1"].folder
