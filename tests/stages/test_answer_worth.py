"""McSc's rewards of answers, and how pairs are compared in all dimensions."""

import numpy as np
import pandas as pd
import pytest

from tests.preference_tables import preferences
from vidpref.rewards.questions import (
    dimension_blocks,
    hierarchical,
    hierarchy_question,
    parse_reasoned,
    reasoned_question,
)
from vidpref.stages.answer_examples import Example, hierarchies, turned
from vidpref.stages.answer_worth import hierarchy_worth, reasoned_worth
from vidpref.stages.asking import comparison_account
from vidpref.stages.judge_rows import SeenClips

GRADE = reasoned_question("motion_quality", "{prompt} {description}", {"motion_quality": "smooth?"})
NAMES = ("visual_quality", "motion_quality")
WHOLE = hierarchy_question(NAMES, "{frames} of {prompt}: {dimensions}")


@pytest.mark.parametrize(
    ("said", "supported", "worth"),
    [
        ("<think>it jumps</think><answer>Poor</answer>", True, [1, 1, 1]),
        ("<think>it jumps</think><answer>Poor</answer>", False, [1, 1, 0]),
        (" <think>it is\nfine</think>\n<answer> good. </answer>", True, [1, 0, 1]),
        ("<think>it jumps</think><answer>Awful</answer>", True, [1, 0, 1]),
        ("it jumps\nPoor", True, [0, 0, 0]),
        ("<think></think><answer>Poor</answer>", True, [0, 0, 0]),
        ("<think>it jumps</think><answer>Poor</answer> and more", True, [0, 0, 0]),
        ("<think>a</think><answer>Good</answer><answer>Poor</answer>", True, [0, 0, 0]),
    ],
)
def test_the_worth_of_reasoning_about_one_clip(said, supported, worth):
    """McSc eq. 3: form, word, and the model's own verdict, each 0 or 1."""
    rule, example = reasoned_worth("sure?"), Example((0,), GRADE, "Poor")
    assert rule.of(example, said, supported) == worth
    assert reasoned_worth("").of(example, said, supported) == worth[:2]


def test_the_form_that_is_asked_for_is_read():
    said = Example((0,), GRADE, "Good", "it is smooth").answer("reasoned")
    assert parse_reasoned(said) == ("it is smooth", "Good")
    assert GRADE.read(said) == 1.0


@pytest.mark.parametrize(
    ("said", "worth"),
    [
        ("<dim>visual quality: First</dim><dim>Motion quality: it jumps. second</dim>"
         "<answer>First</answer>", [1, 1, 1]),
        ("<dim>visual quality: First</dim><dim>motion quality: who knows</dim>"
         "<answer>Second</answer>", [1, 0.5, 0]),
        ("<dim>visual quality: Equal</dim><dim>beauty: First</dim><answer>First</answer>",
         [0, 0.5, 1]),
        ("<dim>visual quality: First</dim><dim>visual quality: Second</dim>", [0, 0.5, 0]),
        ("First", [0, 0, 0]),
        ("<answer>First</answer>", [0, 0, 1]),
    ],
)  # fmt: skip
def test_the_worth_of_comparing_two_clips(said, worth):
    """McSc eq. 4: a block a dimension, the part of them that have their form, the better clip."""
    rule, example = hierarchy_worth(NAMES), Example((0, 1), WHOLE, "First")
    assert rule.of(example, said, False) == worth


def test_what_is_told_to_say_is_worth_all():
    words = {"visual_quality": "Equal", "motion_quality": "Second"}
    said = hierarchical(words, "Second")
    assert dimension_blocks(said, NAMES) == words
    example = Example((0, 1), WHOLE, "Second", dimensions=tuple(words.items()))
    assert example.answer("reasoned") == said
    assert hierarchy_worth(NAMES).of(example, said, False) == [1, 1, 1]


def clips():
    index = pd.DataFrame({"record": range(3), "prompt": "a ball"}, index=["x", "y", "z"])
    return SeenClips(index, [])


def test_the_better_clip_is_the_verdict_on_all_or_that_of_more_dimensions():
    said = preferences(
        [
            ("x", "y", "visual_quality", "A"),
            ("x", "y", "motion_quality", "tie"),
            ("x", "z", "visual_quality", "A"),
            ("x", "z", "overall", "B"),
            ("y", "z", "visual_quality", "A"),
            ("y", "z", "motion_quality", "B"),
        ]
    )
    seen = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        found = hierarchies(said, clips(), WHOLE, NAMES, most=9, rng=rng)
        assert len(found) == 2  # of y and z nobody is better
        for example in found:
            better = example.clips[0 if example.word == "First" else 1]
            told = dict(example.dimensions)
            if set(example.clips) == {0, 1}:
                assert better == 0
                assert told == {"visual_quality": example.word, "motion_quality": "Equal"}
            else:
                assert better == 2
                assert told == {
                    "visual_quality": {"First": "Second", "Second": "First"}[example.word]
                }
        seen.add(found[0].clips)
        again = turned(turned(found))
        assert [e.clips for e in again] == [e.clips for e in found]
        assert [e.dimensions for e in again] == [e.dimensions for e in found]
        (other, _) = turned(found)
        assert (other.clips, other.word != found[0].word) == (found[0].clips[::-1], True)
    assert len(seen) == 2


def test_comparisons_in_both_orders_show_a_bias_for_a_place():
    one = [Example((0, 1), WHOLE, "First"), Example((1, 2), WHOLE, "Second")]
    both = [*one, *turned(one)]
    first = "<answer>First</answer>"
    assert comparison_account(both, [first] * 4) == {
        "pairs": 2, "unclear": 0.0, "right": 0.5, "position_bias": 1.0
    }  # fmt: skip
    right = [f"<answer>{example.word}</answer>" for example in both]
    assert comparison_account(both, right)["right"] == 1.0
    assert comparison_account(both, right)["position_bias"] == 0.0
    assert comparison_account(both, ["?"] * 4) == {
        "pairs": 2, "unclear": 1.0, "right": None, "position_bias": None
    }  # fmt: skip
    assert comparison_account(both, [first, "?", "?", "?"])["unclear"] == 0.75
