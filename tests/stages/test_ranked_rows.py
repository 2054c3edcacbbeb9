"""Pairs of clips that are graded side by side: their rows, and the loss that puts them in order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tests.language.reward_rows import clip
from tests.preference_tables import preferences
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.losses.answers import AnswerLoss
from vidpref.losses.ranked_answers import RankedAnswerLoss
from vidpref.models.qwen_vl.answers import QwenVLAnswers
from vidpref.models.qwen_vl.inputs import from_arrays
from vidpref.objectives.preference import Preference
from vidpref.rewards.questions import grade_question, reasoned_question, verdict_question
from vidpref.stages.answer_examples import Example, together
from vidpref.stages.answer_rows import AnswerRows
from vidpref.stages.judge_rows import SeenClips
from vidpref.stages.ranked_rows import (
    RankedPair,
    RankedRows,
    behind_reasons,
    ranked_pairs,
    scales,
    two_by_two,
    unpaired,
)
from vidpref.training.tuning import Everything

ABOUT = {"motion_quality": "smooth?", "visual_quality": "sharp?"}
MOTION, SIGHT = (
    grade_question(name, "{prompt} {description}", ABOUT)
    for name in ("motion_quality", "visual_quality")
)
VERDICT = verdict_question("keep {prompt}?")
DIMENSIONS = {MOTION.text: "motion_quality", SIGHT.text: "visual_quality", VERDICT.text: "accept"}
A, B, TIE, INVALID = Preference
THETA = 5.0


@pytest.fixture(scope="module")
def clips():
    records = [{"video": clip(4, 16, seed=i), "prompt": "a ball"} for i in range(3)]
    index = pd.DataFrame({"frames": 4, "height": 16, "width": 16}, index=["x", "y", "z"])
    return SeenClips(index.assign(prompt="a ball", record=range(3)), records)


def turns(number: int, *asked) -> Example:
    first, *more = (Example((number,), question, word, reason) for question, word, reason in asked)
    return dataclasses.replace(first, more=tuple(more))


def test_compared_clips_are_asked_the_same_in_the_same_order(clips):
    said = preferences(
        [
            ("x", "y", "motion_quality", "A"),
            ("x", "y", "visual_quality", "tie"),
            ("x", "z", "motion_quality", "B"),
        ]
    )
    single = [
        Example((i,), question, word)
        for i, words in enumerate((("Good", "Poor"), ("Poor", "Poor"), ("Good", "Good")))
        for question, word in zip((MOTION, SIGHT), words, strict=True)
    ]
    single = [one for one in single if (one.clips, one.question) != ((2,), SIGHT)]
    names = {text: name for text, name in DIMENSIONS.items() if name != "accept"}
    orders = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        first, second = ranked_pairs(said, clips, single, names, rng, most=9)
        questions = [[one.question for one in (e, *e.more)] for e in first.examples]
        assert questions[0] == questions[1]
        labels = dict(zip([q.text for q in questions[0]], first.labels, strict=True))
        assert labels == {MOTION.text: A, SIGHT.text: TIE}
        assert [e.clips for e in first.examples] == [(0,), (1,)]
        # of z nothing is known but its motion
        assert [(e.question, e.more) for e in second.examples] == [(MOTION, ())] * 2
        assert second.labels == (B,)
        orders.add(questions[0][0].text)
    assert len(orders) == 2
    alone = ranked_pairs(said, clips, single, names, rng, most=1)
    assert len(alone) == 1
    (left,) = {0, 1, 2} - {e.clips[0] for e in alone[0].examples}
    assert {e.clips for e in unpaired(single, alone)} == {(left,)}
    assert unpaired(single, [first, second]) == []


def test_with_reasons_only_a_shared_one_stands_before_grades_that_are_ranked():
    def pair(reasons, labels):
        both = (
            turns(number, (MOTION, "Good", reason), (SIGHT, "Poor", reason))
            for number, reason in enumerate(reasons)
        )
        return RankedPair(tuple(both), labels)

    pairs = [
        pair(("it jumps", "it jumps"), (A, TIE)),
        pair(("it jumps", "it fades"), (A, B)),
        pair(("it fades", "it fades"), (INVALID, B)),
        pair(("", ""), (A, A)),
    ]
    rng = np.random.default_rng(0)
    found = behind_reasons(pairs, rng, most=9)
    asked = [(own.labels, own.examples[0].question, own.examples[0].reason) for own in found]
    assert asked == [
        ((A,), MOTION, "it jumps"),
        ((B,), SIGHT, "it fades"),
    ]
    for own in found:
        first, second = own.examples
        assert (first.clips, second.clips) == ((0,), (1,))
        assert (first.question, first.reason) == (second.question, second.reason)
        assert first.more == second.more == ()
    (chosen,) = behind_reasons(pairs, rng, most=1)
    assert chosen in found


def test_one_conversation_asks_all_of_a_clip(clips, reader):
    single = [
        Example((0,), MOTION, "Good"),
        Example((1,), MOTION, "Poor"),
        Example((0,), VERDICT, "Reject"),
    ]
    whole, alone = together(single, np.random.default_rng(0))
    assert {one.question.text for one in (whole, *whole.more)} == {MOTION.text, VERDICT.text}
    assert (alone.clips, alone.more) == ((1,), ())
    row = AnswerRows(clips, reader, [whole], 2, "probabilities")[0]
    tail = row["tokens"][-len(row["said"]) :]
    end = reader.tokens.special("<|im_end|>")
    words = [one.word for one in (whole, *whole.more)]
    assert reader.tokens.read(tail[row["said"]].tolist()) == "".join(words)
    assert (tail[row["said"]] == end).sum() == 2
    asked = reader.tokens.read(tail[~row["said"]].tolist())
    assert whole.more[0].question.about("a ball", 2) in asked


@pytest.mark.parametrize("form", ["probabilities", "reasoned"])
def test_the_words_that_grade_are_found(form, clips, reader):
    question = MOTION
    if form == "reasoned":  # the reason has a grade in it
        question = reasoned_question("motion_quality", "{prompt} {description}", ABOUT)
    first = turns(0, (question, "Good", "Poor light"), (VERDICT, "Reject", ""))
    second = turns(1, (question, "Poor", "it is not Good"), (VERDICT, "Accept", ""))
    extra = two_by_two([Example((2,), question, "Normal", "so")])
    assert extra == [RankedPair((extra[0].examples[0],) * 2)]
    rows = RankedRows(clips, reader, [RankedPair((first, second), (A, TIE)), *extra], 2, form)
    row = rows[0]
    tail = row["tokens"][:, -row["said"].shape[1] :]
    for k, words in enumerate((("Good", "Reject"), ("Poor", "Accept"))):
        found = tail[k, row["at"][k]].tolist()
        assert found == [reader.tokens.text(word)[0] for word in words]
    assert row["preference"].tolist() == [A, TIE]
    assert rows[1]["preference"].tolist() == [INVALID, INVALID]
    assert row["scale"].tolist() == [0, 1]


def test_the_loss_is_that_of_answers_and_of_the_order(clips, reader, model):
    folder, params = model
    first = turns(0, (MOTION, "Good", ""), (VERDICT, "Reject", ""))
    second = turns(1, (MOTION, "Poor", ""), (VERDICT, "Accept", ""))
    pairs = [RankedPair((first, second), (A, TIE)), RankedPair((second, first), (INVALID, B))]
    rows = RankedRows(clips, reader, pairs, 2, "probabilities")
    batch = {name: np.stack([rows[i][name] for i in (0, 1)]) for name in rows[0]}
    network = QwenVLAnswers(QwenVLFolder(folder).config)
    words = scales(reader.tokens)
    tuning = Everything(lambda key: {})
    loss_fn = RankedAnswerLoss(network, tuning, words, 0.7, THETA)
    params = {"model": jax.tree.map(jnp.asarray, params)}
    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items() if x.ndim > 2}
    told = flat["said"].shape[1]

    def expected(params):
        answers = [
            AnswerLoss(network, tuning)(
                params, {}, {name: x[2 * i : 2 * i + 2] for name, x in flat.items()}, key
            )[0]
            for i in (0, 1)
        ]
        logits = network.apply({"params": params}, from_arrays(flat), told).astype(jnp.float32)
        order = []
        for pair, turn, label in ((0, 0, A), (0, 1, TIE), (1, 1, B)):
            best, worst = (jnp.array(ids) for ids in words[turn])
            score = []
            for k in (0, 1):
                own = jnp.exp(logits[2 * pair + k, batch["at"][pair, k, turn]])
                score.append(own[best].sum() / own[worst].sum())
            a, b = score  # Rao and Kupper's own form, of strengths
            chance = {A: a / (a + THETA * b), B: b / (b + THETA * a)}
            chance[TIE] = 1 - chance[A] - chance[B]
            order.append(-jnp.log(chance[label]))
        return sum(answers) / 2 + 0.7 * ((order[0] + order[1]) / 2 + order[2]) / 2

    key = jax.random.key(0)
    run = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, metrics), gradient = run(params, {}, batch, key)
    value, slope = jax.jit(jax.value_and_grad(expected))(params)
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    for found, own in zip(jax.tree.leaves(gradient), jax.tree.leaves(slope), strict=True):
        np.testing.assert_allclose(found, own, atol=1e-4 * (float(jnp.abs(own).max()) + 1e-3))
    np.testing.assert_allclose(loss, metrics["answers"] + 0.7 * metrics["order"], rtol=1e-6)
    # padding rows change nothing, and parts of a batch make the whole
    more = {name: np.concatenate([x, x[:1]]) for name, x in batch.items()}
    more["weight"] = np.array([1.0, 1.0, 0.0], np.float32)
    np.testing.assert_allclose(run(params, {}, more, key)[0][0], loss, rtol=1e-6)
    parts = [{name: x[i : i + 1] for name, x in batch.items()} for i in (0, 1)]
    found = [run(params, {}, part, key)[0][1] for part in parts]
    for name, count in loss_fn.counts(batch).items():
        if name == "loss":
            continue
        own = [loss_fn.counts(part)[name] for part in parts]
        mean = sum(m[name] * c for m, c in zip(found, own, strict=True)) / count
        np.testing.assert_allclose(mean, metrics[name], rtol=1e-5)
