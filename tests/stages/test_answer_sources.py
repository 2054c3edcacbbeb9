"""What a judge that answers in words learns from: what shows a grade, and what it must look for."""

import pytest

from vidpref.config.by_name import named_config
from vidpref.datasets.miniworld import prompts
from vidpref.rewards.questions import GRADES, parse_reasoned
from vidpref.runs import judge_recipe
from vidpref.stages import judged_world
from vidpref.stages.answer_sources import instruction_rows
from vidpref.stages.answer_training import answer_reader
from vidpref.stages.lessons import lessons
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

        def given(lesson, *overrides):
            config = named_config("critic:mini", overrides)
            recipe = judge_recipe.JudgeRecipe(config, folder)
            for stage in recipe.stages[:2]:
                if not (folder / stage.folder).exists():
                    (folder / stage.folder).mkdir()
                    stage.body(folder / stage.folder)
            return recipe.given(lessons(config)[lesson], recipe.model())

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
def test_a_judge_that_reasons_first_sees_by_words_alone(world, steps):
    given = world("judge", *SMALL, *REASONED, f"judge.train.steps={steps}")
    reader = answer_reader(given.config, given.model)
    ranked, others = said(instruction_rows(given, reader), reader)
    # as many pairs as training takes, and the grades of clips that are in none of them
    assert len(ranked) == 4 * steps
    for both in (*ranked, *others):
        for words in both:
            left = words
            for word in GRADES:
                left = left.replace(word, "")
            assert words
            assert not left, words


def test_then_it_gives_reasons_and_is_ranked_where_they_are_shared(world):
    given = world("judge-reasons", *SMALL, *REASONED, "judge.critic.reasons.batch_size=4")
    reader = answer_reader(given.config, given.model)
    ranked, others = said(instruction_rows(given, reader), reader)
    assert len(ranked) == len(others) > 0
    for both in ranked:
        (reason, word), (other, again) = map(parse_reasoned, both)
        assert reason == other
        assert {word, again} <= set(GRADES)
    forms = [words for both in others for words in both if words.startswith("<think>")]
    verdicts = [words for both in others for words in both if words in ("Yes", "No")]
    assert abs(len(forms) - len(verdicts)) <= 2  # a share of each kind, but for what fills a pair
    words = {parse_reasoned(words.split("</answer>")[0] + "</answer>")[1] for words in forms}
    assert words == set(GRADES)


def test_without_pairs_every_reason_is_learnt(world):
    given = world("judge", *SMALL, *REASONED, "judge.critic.ranking=0")
    reader = answer_reader(given.config, given.model)
    rows = instruction_rows(given, reader)
    clips, dimensions = 4 * 4, 3
    # a grade, and what it says when it is asked for its own verdict on that
    assert len(rows) == 2 * clips * dimensions
    words = [reader.questions.tokens.read(told(rows[i])) for i in (0, 47, 48, 95)]
    assert [parse_reasoned(own)[1] in GRADES for own in words[:2]] == [True, True]
    assert set(words[2:]) <= {"Yes", "No"}


def test_grades_of_one_word_are_learnt_with_their_pairs(world):
    given = world("judge", *SMALL, "judge.train.steps=100")
    reader = answer_reader(given.config, given.model)
    ranked, others = said(instruction_rows(given, reader), reader)
    assert len(ranked) == 4 * 6  # all pairs of four clips of four prompts
    assert others == []
