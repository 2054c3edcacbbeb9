"""What a judge that answers in words learns from: what shows a grade, and what it must look for."""

import pytest

from vidpref.config.by_name import named_config
from vidpref.datasets.miniworld import prompts
from vidpref.rewards.questions import GRADES, parse_reasoned
from vidpref.runs import judge_recipe
from vidpref.stages import judged_world
from vidpref.stages.answer_sources import instruction_rows
from vidpref.stages.answer_training import answer_reader
from vidpref.stages.ranked_rows import RankedRows

SMALL = ("judge.world.prompts=4", "judge.train.batch_size=4", "judge.critic.pairs=0")
REASONED = ("reward.vlm_judge.answers=reasoned", "judge.reasoning.enabled=True")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Stages of a small world of judged clips, by the overrides that matter to its frames."""
    few = {name: prompts(name)[:4] for name in ("train", "validation", "test")}
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        for module in (judge_recipe, judged_world):
            patch.setattr(module, "prompts", lambda name, camera=False: few[name])

        def given(*overrides):
            recipe = judge_recipe.JudgeRecipe(named_config("critic:mini", overrides), folder)
            for stage in recipe.stages[:2]:
                if not (folder / stage.folder).exists():
                    (folder / stage.folder).mkdir()
                    stage.body(folder / stage.folder)
            return recipe._given(recipe._model())

        yield given


def told(row: dict) -> list[int]:
    return row["tokens"][-len(row["said"]) :][row["said"]].tolist()


def said(rows: RankedRows, reader) -> tuple[list[list[str]], list[list[str]]]:
    """The answers of rows that are ranked, and of the others."""
    ranked, others = [], []
    for index in range(len(rows)):
        row = rows[index]
        words = [
            reader.questions.tokens.read(tokens[-len(told) :][told].tolist())
            for tokens, told in zip(row["tokens"], row["said"], strict=True)
        ]
        known = (row["preference"] < 4).any() and (row["at"] > 0).any()
        (ranked if known else others).append(words)
    return ranked, others


@pytest.mark.parametrize("steps", [1, 2])
def test_a_judge_that_reasons_sees_by_pairs_that_no_reason_gives_away(world, steps):
    given = world(*SMALL, *REASONED, f"judge.train.steps={steps}")
    reader = answer_reader(given.config, given.model)
    rows = instruction_rows(given, reader)
    ranked, others = said(rows, reader)
    # as many rows with reasons as pairs, all that training takes
    assert len(ranked) == len(others) == 4 * steps
    for both in ranked:
        for words in both:
            left = words
            for word in GRADES:
                left = left.replace(word, "")
            assert words
            assert not left, words
    forms = [words for both in others for words in both]
    reasoned = [words for words in forms if words.startswith("<think>")]
    assert reasoned
    for words in reasoned:
        reason, word = parse_reasoned(words.split("</answer>")[0] + "</answer>")
        assert reason
        assert word in GRADES


def test_without_pairs_every_reason_is_learnt(world):
    given = world(*SMALL, *REASONED, "judge.critic.ranking=0")
    reader = answer_reader(given.config, given.model)
    assert reader.direct is reader.single
    rows = instruction_rows(given, reader)
    clips, dimensions = 4 * 4, 3
    # a grade, and what it says when it is asked for its own verdict on that
    assert len(rows) == 2 * clips * dimensions
    words = [reader.questions.tokens.read(told(rows[i])) for i in (0, 47, 48, 95)]
    assert [parse_reasoned(own)[1] in GRADES for own in words[:2]] == [True, True]
    assert set(words[2:]) <= {"Yes", "No"}


def test_grades_of_one_word_are_learnt_with_their_pairs(world):
    given = world(*SMALL, "judge.train.steps=100")
    reader = answer_reader(given.config, given.model)
    assert reader.direct is reader.single
    ranked, others = said(instruction_rows(given, reader), reader)
    assert len(ranked) == 4 * 6  # all pairs of four clips of four prompts
    assert others == []
