"""What a judge that answers in words is told, and in which order."""

import pytest

from vidpref.config.by_name import named_config
from vidpref.stages.lessons import lessons

REASONED = "reward.vlm_judge.answers=reasoned"
WORDS = "reward.vlm_judge.answers=words"


@pytest.mark.parametrize("form", [REASONED, WORDS])
def test_a_judge_with_reasons_learns_to_see_before_it_gives_them(form):
    config = named_config("critic:mini", [form, "judge.critic.reasons.steps=7"])
    before = str(config)
    told = lessons(config)
    assert str(config) == before
    seeing, reasons = told["judge"], told["judge-reasons"]
    assert list(told) == ["judge", "judge-reasons"]
    assert seeing.reward.vlm_judge.answers == "probabilities"
    assert seeing.judge.critic.ranking == config.judge.critic.ranking == 1.0
    assert seeing.judge.train == config.judge.train
    assert reasons.reward.vlm_judge.answers == config.reward.vlm_judge.answers
    assert reasons.judge.critic.ranking == 1.0
    assert reasons.judge.train == config.judge.critic.reasons
    assert reasons.judge.train.steps == 7


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("critic:mini", []),
        ("critic:mini", [REASONED, "judge.critic.ranking=0"]),
        ("videoreward:mini", []),
    ],
)
def test_others_are_told_all_at_once(name, overrides):
    config = named_config(name, overrides)
    told = lessons(config)
    assert list(told) == ["judge"]
    assert told["judge"] is config


def test_its_own_phases_are_not_what_it_sees_by():
    config = named_config("mcsc:mini")
    told = lessons(config)
    for phase in ("reasoning", "hierarchy"):
        assert not told["judge"].judge[phase].enabled
        assert told["judge-reasons"].judge[phase].enabled
    assert lessons(named_config("mcsc:mini", ["judge.critic.instruct=False"])) == {}
