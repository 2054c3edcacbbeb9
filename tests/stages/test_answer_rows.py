"""Rows of a judge that learns to answer: who says what of which clip, and where answers lie."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

from tests.language.reward_rows import clip
from tests.preference_tables import preferences
from vidpref.config.schema import new_config
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.decoding import answer
from vidpref.losses.answers import AnswerLoss
from vidpref.models.qwen_vl.answers import QwenVLAnswers
from vidpref.models.qwen_vl.inputs import to_arrays
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room
from vidpref.rewards.questions import (
    better_question,
    grade_question,
    parse_better,
    shown_frames,
    verdict_question,
)
from vidpref.rewards.vlm_judge import open_model
from vidpref.stages.answer_examples import Example, bounds_of, compared, graded, word_of
from vidpref.stages.answer_rows import AnswerRows
from vidpref.stages.judge_rows import SeenClips
from vidpref.training.tuning import Everything

ABOUT = {"motion_quality": "smooth?"}
GRADE = grade_question("motion_quality", "{prompt} {description}", ABOUT)
VERDICT = verdict_question("keep {prompt}?")
BETTER = better_question("motion_quality", "{frames} each, {prompt} {description}", ABOUT)
BOUNDS = (7 / 3, 11 / 3)


@pytest.fixture(scope="module")
def clips():
    sizes = {"x": (4, 16, 16), "y": (4, 16, 16), "z": (4, 8, 16)}
    records = [
        {"video": clip(t, 16, seed=i)[:, :h, :w], "prompt": "a ball"}
        for i, (t, h, w) in enumerate(sizes.values())
    ]
    index = pd.DataFrame(sizes.values(), index=list(sizes), columns=["frames", "height", "width"])
    return SeenClips(index.assign(prompt="a ball", record=range(len(sizes))), records)


@pytest.mark.parametrize(
    ("rating", "word"),
    [(1.0, "Poor"), (2.3, "Poor"), (2.4, "Normal"), (3.6, "Normal"), (3.7, "Good"), (5.0, "Good")],
)
def test_a_rating_is_one_of_three_words(rating, word):
    assert word_of(GRADE, rating, BOUNDS) == word
    assert word_of(VERDICT, rating, BOUNDS) == ("Accept" if rating > 3 else "Reject")


def test_thirds_make_three_words_of_ratings_that_lie_close_together():
    rated = [(f"clip{i}", "motion_quality", 4.0 + i / 100) for i in range(90)]
    said = preferences([], [*rated, ("clip0", "accept", 5.0), ("clip1", "accept", 5.0)])
    asked = {"motion_quality": [GRADE], "accept": [VERDICT], "text_alignment": [GRADE]}
    section = new_config().judge.critic
    assert bounds_of(said, asked, section) == dict.fromkeys(asked, tuple(section.grades))
    section.thirds = True
    found = bounds_of(said, asked, section)
    words = [word_of(GRADE, rating, found["motion_quality"]) for *_, rating in rated]
    assert [words.count(word) for word in ("Poor", "Normal", "Good")] == [30, 30, 30]
    # a verdict is no third of anything, and of what nobody rated nothing is known
    assert found["accept"] == found["text_alignment"] == tuple(section.grades)
    alike = preferences([], [(f"clip{i}", "motion_quality", 1.0) for i in range(9)])
    same = bounds_of(alike, {"motion_quality": [GRADE]}, section)["motion_quality"]
    assert word_of(GRADE, 1.0, same) == "Normal"


def test_grades_with_their_reasons_and_verdicts_without(clips):
    said = preferences(
        [],
        [("x", "motion_quality", 5.0), ("z", "motion_quality", 1.0), ("x", "accept", 1.0)],
    )
    said.scores["rationale"] = ["", "it jumps", "bad"]
    asked = {"motion_quality": [GRADE], "accept": [VERDICT]}
    found = graded(said, clips, asked, dict.fromkeys(asked, BOUNDS))
    assert [(e.clips, e.answer("words")) for e in found] == [
        ((0,), "Good"),
        ((2,), "it jumps\nPoor"),
        ((0,), "Reject"),
    ]
    assert [e.answer("probabilities") for e in found] == ["Good", "Poor", "Reject"]
    assert found[1].answer("reasoned") == "<think>it jumps</think><answer>Poor</answer>"
    assert found[2].answer("reasoned") == "Reject"
    for example in found:
        assert example.question.read(example.answer("words")) in (0.0, 1.0)
    with pytest.raises(ValueError, match="2 questions, and a rating answers one"):
        graded(said, clips, {"motion_quality": [GRADE, GRADE]}, {"motion_quality": BOUNDS})


def test_pairs_say_which_of_the_two_shown_is_better_and_leave_ties_out(clips):
    said = preferences(
        [
            ("x", "y", "motion_quality", "B"),
            ("x", "z", "motion_quality", "A"),
            ("y", "z", "motion_quality", "tie"),
            ("x", "gone", "motion_quality", "A"),
        ]
    )
    said.comparisons["rationale"] = ["the first jumps", "", "", ""]
    orders = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        asked = {"motion_quality": BETTER}
        first, second = compared(said, clips, asked, most=9, rng=rng)
        assert set(first.clips) == {0, 1}
        assert set(second.clips) == {0, 2}
        winner = first.clips[0 if parse_better(first.answer("words")) else 1]
        assert winner == 1
        # a reason that speaks of first and second is one of that order
        assert first.answer("words").startswith("the first jumps\n") == (first.clips == (0, 1))
        orders.add(first.clips)
    assert len(orders) == 2
    assert len(compared(said, clips, asked, most=1, rng=rng)) == 1


def test_rows_end_in_their_answers(clips, reader):
    examples = [
        Example((0,), GRADE, "Good"),
        Example((2, 1), BETTER, "First", "it jumps at the end"),
    ]
    rows = AnswerRows(clips, reader, examples, 2, "words")
    assert sorted((r.tokens, r.frames, r.patches, n) for r, n in rows.rooms) == [
        (128, 2, 16, 16),
        (128, 4, 16, 64),
    ]
    for index, example in enumerate(examples):
        row = rows[index]
        told = row["tokens"][-len(row["said"]) :][row["said"]]
        assert reader.tokens.read(told.tolist()) == example.answer("words")
        assert told[-1] == reader.tokens.special("<|im_end|>")
        assert row["said"][-1]
        assert row["mask"][-1]
        assert not row["mask"][0]
        frames = [clips.record(n)["video"][shown_frames(4, 2)] for n in example.clips]
        seen = [s for video in frames for s in reader.see(video)]
        asked = reader.row(seen, example.question.about("a ball", 2))
        whole = row["tokens"][row["mask"]]
        np.testing.assert_array_equal(whole[: len(asked.tokens)], asked.tokens)
        assert len(whole) == len(asked.tokens) + len(told)


def test_frames_may_be_shown_as_one_video(clips, model):
    reader = open_model(str(model[0]), (64, 256), 512, 4.0)[1]
    rows = AnswerRows(clips, reader, [Example((0,), GRADE, "Good")], 4, "words")
    assert [(r.frames, r.patches) for r, _ in rows.rooms] == [(2, 16)]
    tokens = rows[0]["tokens"]
    assert (tokens == reader.tokens.special("<|video_pad|>")).sum() == 2 * 16 // 4
    assert not (tokens == reader.tokens.special("<|image_pad|>")).any()
    as_images = open_model(str(model[0]), (64, 256), 512)[1]
    alone = AnswerRows(clips, as_images, [Example((0,), GRADE, "Good")], 4, "words")
    assert alone[0]["patch_mask"].sum() == 2 * rows[0]["patch_mask"].sum()
    config = dataclasses.replace(reader.config, family="qwen3_vl")
    with pytest.raises(ValueError, match="video_fps: a Qwen3-VL is shown images here"):
        dataclasses.replace(reader, config=config)


def test_an_example_that_does_not_fit_is_named(clips, reader):
    long = grade_question("motion_quality", "{prompt} {description}" + "x" * 500, ABOUT)
    with pytest.raises(
        ValueError, match=r"clip z: 2 images or videos take .* there is room for 512"
    ):
        AnswerRows(clips, reader, [Example((2,), long, "Good")], 2, "words")


def test_what_the_model_says_is_what_it_is_most_likely_trained_to_say(clips, reader, model):
    """The greedy answer of generation is, read as training reads it, right in every token."""
    folder, params = model
    config = QwenVLFolder(folder).config
    frames = clips.record(0)["video"][shown_frames(4, 2)]
    asked = reader.row(reader.see(frames), GRADE.about("a ball", 2))
    rule = reader.rule(8, 0.0)
    module = QwenVL(config)
    said = answer(module, params, reader.pack([asked], Room()), jax.random.key(0), rule)
    told = np.asarray(said.tokens)[0, 0]
    rows = AnswerRows(clips, reader, [Example((0,), GRADE, "Good")], 2, "words")
    batch = {name: x[None] for name, x in rows[0].items()}
    # the same row with the model's own words for its answer
    whole = np.concatenate([asked.tokens, told])
    room = rows.rooms[0][0]
    length = room.tokens
    own = dataclasses.replace(asked, tokens=whole)
    batch |= to_arrays(reader.pack([own], room))
    batch["said"] = (np.arange(16) >= 16 - len(told))[None]
    assert batch["tokens"].shape == (1, length)
    loss_fn = AnswerLoss(QwenVLAnswers(config), Everything(lambda key: {}))
    _, metrics = loss_fn({"model": params}, {}, batch, jax.random.key(0))
    assert metrics["answer_accuracy"] == 1.0
    batch["tokens"] = batch["tokens"].copy()
    batch["tokens"][0, -1] += 1
    assert loss_fn({"model": params}, {}, batch, jax.random.key(0))[1]["token_accuracy"] < 1.0
