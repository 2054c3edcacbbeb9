"""Templates of reward models: what they must hold, and who can see the prompt."""

import pytest

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.language.reward_template import RewardTemplate, reward_token

TWO = ("visual_quality", "text_alignment")
GOOD = "a <|VQ_reward|> b {text_prompt} <|TA_reward|> c"


def test_parts_hold_the_prompt_as_text():
    template = RewardTemplate(GOOD, TWO)
    assert template.tokens == ("<|VQ_reward|>", "<|TA_reward|>")
    assert template.parts("{x} <|VQ_reward|>") == [
        "a ",
        "<|VQ_reward|>",
        " b {x} <|VQ_reward|> ",
        "<|TA_reward|>",
        " c",
    ]
    assert template.blind == ("visual_quality",)
    swapped = RewardTemplate(GOOD, TWO[::-1])
    assert swapped.parts("p") == template.parts("p")
    assert swapped.tokens == template.tokens[::-1]


def test_one_shared_token_sees_the_prompt():
    template = RewardTemplate("of {text_prompt}:", TWO, shared=True)
    assert template.parts("a cat") == ["of a cat:"]
    assert template.tokens == template.blind == ()


@pytest.mark.parametrize(
    ("text", "shared", "message"),
    [
        ("<|VQ_reward|> <|TA_reward|>", False, "{text_prompt} 0 times"),
        (GOOD + "{text_prompt}", False, "{text_prompt} 2 times"),
        ("{text_prompt} <|VQ_reward|>", False, r"<\|TA_reward\|> 0 times"),
        (GOOD + "<|VQ_reward|>", False, r"<\|VQ_reward\|> 2 times"),
        (GOOD + "<|MQ_reward|>", False, r"<\|MQ_reward\|>, which is the token of no dimension"),
        (GOOD + "<|video_pad|>", False, r"<\|video_pad\|>, which is"),
        (GOOD, True, "the token of no dimension"),
        ("", False, "0 times"),
    ],
)
def test_templates_without_their_tokens_are_refused(tmp_path, text, shared, message):
    path = tmp_path / "template.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        RewardTemplate.read(path, TWO, shared=shared)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("dimensions", [(), ("accept", "accept")])
def test_dimensions_are_different_names(dimensions):
    with pytest.raises(ValueError, match="one or more different names"):
        RewardTemplate("{text_prompt}", dimensions, shared=True)


@pytest.mark.parametrize(("name", "shared"), [("separate", False), ("shared", True)])
def test_our_own_templates(name, shared):
    path = PROJECT_ROOT / "data" / "reward_templates" / f"{name}.txt"
    dimensions = ("visual_quality", "motion_quality", "text_alignment")
    template = RewardTemplate.read(path, dimensions, shared=shared)
    assert template.blind == (() if shared else dimensions[:2])
    assert not template.text.endswith("\n")


def test_a_dimension_of_another_name_has_its_token():
    assert reward_token("accept") == "<|accept_reward|>"
    with pytest.raises(ValueError, match="no such file"):
        RewardTemplate.read(PROJECT_ROOT / "none.txt", TWO)
