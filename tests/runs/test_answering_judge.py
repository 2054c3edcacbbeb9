"""Judges that answer in words, trained: told what to say, drawing what they learn from, asked."""

import json

import numpy as np
import pytest
import transformers

from vidpref.config.by_name import named_config
from vidpref.datasets.miniworld import prompts
from vidpref.interop.safetensors_files import TensorFolder
from vidpref.rewards.registry import build_reward
from vidpref.runs import judge_checks, judge_recipe, judge_run
from vidpref.stages import answer_examples, answer_worth, judged_world, own_answers

SMALL = (
    "judge.world.prompts=3",
    "judge.scratch.width=32",
    "judge.scratch.layers=1",
    "judge.critic.pairs=0.0",
    "judge.train.batch_size=8",
    "judge.train.steps=2",
    "judge.train.log_every=1",
    "judge.critic.reasons.steps=2",
    "judge.critic.reasons.batch_size=8",
    "judge.reasoning.enabled=True",
    "judge.reasoning.group=3",
    "judge.reasoning.train.steps=3",
    "judge.reasoning.train.batch_size=8",
    "judge.reasoning.train.checkpoint_every=1",
    "judge.reasoning.train.log_every=1",
    "judge.reasoning.train.optimizer.learning_rate=1e-2",
    "judge.hierarchy.enabled=True",
    "judge.hierarchy.group=3",
    "judge.hierarchy.train.steps=1",
    "judge.hierarchy.train.batch_size=8",
    "judge.hierarchy.train.log_every=1",
    "reward.vlm_judge.answers=reasoned",
    "reward.vlm_judge.max_tokens=24",
    "reward.vlm_judge.retries=0",
)


@pytest.fixture
def few(monkeypatch):
    """The mini world with few prompts."""
    found = {name: prompts(name)[:3] for name in ("train", "validation", "test")}
    for module in (judge_recipe, judged_world):
        monkeypatch.setattr(module, "prompts", lambda name, camera=False: found[name])


def test_a_judge_learns_to_reason_and_goes_on_with_the_same_bits(few, tmp_path, monkeypatch):
    """What it draws at first has no form; half of it is given one, so that something is learnt."""
    parse, seen = answer_worth.parse_reasoned, []

    def lenient(said):
        seen.append(said)
        return ("why", "Good") if len(said) % 2 else parse(said)

    monkeypatch.setattr(answer_worth, "parse_reasoned", lenient)
    config = named_config("critic:mini", SMALL)
    folder = judge_run.run(config, tmp_path / "whole")
    assert len(seen) == 3 * 8 * 3  # of the stage before the last
    batches = own_answers.training_batches

    def stopping(*args, **options):
        iterator = batches(*args, **options)
        yield next(iterator)
        yield next(iterator)
        raise KeyboardInterrupt

    monkeypatch.setattr(own_answers, "training_batches", stopping)
    with pytest.raises(KeyboardInterrupt):
        judge_run.run(config, tmp_path / "stopped")
    monkeypatch.setattr(own_answers, "training_batches", batches)
    again = judge_run.run(config, tmp_path / "stopped")
    weights, same = TensorFolder(folder), TensorFolder(again)
    assert set(weights) == set(same)
    for name, tensor in weights.items():
        np.testing.assert_array_equal(tensor, same[name], err_msg=name)

    (told,) = (tmp_path / "whole").glob("judge-reasons-*/judge")
    first = TensorFolder(told)
    (middle,) = (tmp_path / "whole").glob("judge-reasoning-*")
    reasoned = TensorFolder(middle / "judge")
    moved = [name for name in weights if not np.array_equal(reasoned[name], first[name])]
    assert len(moved) > len(list(weights)) / 2
    lines = (middle / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert [m["step"] for m in metrics] == [1, 2, 3]
    for name in ("reward/form", "reward/right", "reward/supported", "zero_spread_groups"):
        assert all(0 <= m[name] <= 1 for m in metrics), name
    assert 0 < metrics[0]["reward/form"] < 1
    assert metrics[0]["sampler_gap"] < 1e-4
    assert metrics[0]["kl"] < 1e-6 < metrics[-1]["kl"]
    assert all(0 < m["answer_length"] <= 24 for m in metrics)
    told = [json.loads(line) for line in (middle / "answers.jsonl").open()]
    assert {own["step"] for own in told} == {1, 2, 3}
    assert all(own["right"] in ("Good", "Normal", "Poor") for own in told)

    account = json.loads((folder.parent / "judge.json").read_text())
    for split in ("validation", "test"):
        assert account[split]["clips"] == 3 * 4
        for own in account[split].values():
            if isinstance(own, dict):
                if "position_bias" in own:
                    assert 0 < own["pairs"] <= 18
                    assert (own["unclear"], own["right"], own["position_bias"]) == (1, None, None)
                    continue
                assert own["rated"] == 12
                assert own["unclear"] == 12  # after so few steps it says nothing that can be read
                assert own["right"] == 0
                assert own["accuracy"] in (None, 0.5)
        assert "comparisons" in account[split]
    last = json.loads((folder.parent / "metrics.jsonl").read_text())
    assert {"reward/form", "reward/blocks", "reward/right"} <= set(last)
    # the folder is a model of transformers, and a judge
    assert transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder) is not None
    with config.unlocked():
        config.reward.vlm_judge.folder = str(folder)
    config.reward.dimension = "visual_quality"
    assert build_reward(config.reward).dimensions == ("visual_quality",)


def test_stages_follow_what_they_depend_on(tmp_path):
    def stages(*overrides):
        config = named_config("critic:mini", [*SMALL, *overrides])
        return {s.name: s.folder for s in judge_recipe.JudgeRecipe(config, tmp_path).stages}

    before = stages()
    own = ["judge-reasoning", "judge-hierarchy"]
    told = ["judge", "judge-reasons"]
    assert list(before) == ["judged-world", "judge-base", *told, *own]

    def changed(*overrides):
        after = stages(*overrides)
        return [name for name in before if before[name] != after.get(name)]

    assert changed("judge.hierarchy.kl=0.0") == ["judge-hierarchy"]
    assert changed("judge.reasoning.kl=0.0") == own
    assert changed("judge.reasoning.train.steps=4") == own
    assert changed("judge.train.steps=4") == [*told, *own]
    # whether it is told to judge its own reasoning is part of what it is told, but not of its sight
    assert changed("judge.reasoning.self_critic=False") == [*told[1:], *own]
    assert changed("judge.critic.reasons.steps=4") == [*told[1:], *own]
    assert changed("reward.vlm_judge.max_pixels=1024") == [*told, *own]
    assert changed("reward.vlm_judge.batch_size=3") == []
    alone = stages("judge.critic.instruct=False")
    assert list(alone) == ["judged-world", "judge-base", *own]
    without = named_config("critic:mini", [])
    names = [s.name for s in judge_recipe.JudgeRecipe(without, tmp_path).stages]
    assert names == ["judged-world", "judge-base", "judge"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["reward.vlm_judge.graded=checklists", "reward.vlm_judge.templates="],
            "several questions of visual_quality",
        ),
        (["judge.dimensions=('beauty',)"], "the judge has no dimension 'beauty'"),
        (["reward.vlm_judge.templates=nowhere"], "templates='nowhere': no such folder, nor in"),
        (["judge.scratch.layers=0"], "judge.base is empty"),
        (["reward.name=verifier"], "reward.name='verifier'; set reward.name=vlm_judge"),
        (["judge.reasoning.enabled=True"], "would change nothing"),
        ([*SMALL, "judge.reasoning.group=1"], "judge.reasoning.group=1: must be >= 2"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(overrides, message):
    with pytest.raises(ValueError, match=message):
        judge_checks.check(named_config("critic:mini", overrides))


def test_half_of_the_criticised_answers_are_wrong_ones():
    asked = answer_examples.Question("?", answer_examples.GRADES, float)
    examples = [
        answer_examples.Example((i,), asked, ["Good", "Poor"][i % 2], f"reason {i % 2}")
        for i in range(400)
    ]
    found = answer_examples.criticised(examples, "sure?", np.random.default_rng(0))
    said = [example.next for example in found]
    assert {question for question, _ in said} == {"sure?"}
    for example, told in zip(examples, found, strict=True):
        same = (told.word, told.reason) == (example.word, example.reason)
        assert same == (told.next[1] == "Yes")
    # a quarter: half are to be wrong, and half of the others have the other word
    assert 60 < sum(word == "No" for _, word in said) < 140
