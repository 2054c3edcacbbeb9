"""Who is asked what, on which side, and which attention checks come when."""

import dataclasses

import numpy as np
import pytest
from annotation_examples import ANSWER, items, task

from vidpref.annotation.answers import AnsweredOtherwise, Answers
from vidpref.annotation.assignment import showings
from vidpref.annotation.journal import JOURNAL, Journal
from vidpref.annotation.task import chosen


@pytest.fixture
def started(tmp_path):
    def start(wanted):
        return Answers(wanted, Journal(tmp_path / JOURNAL, wanted))

    return start


def answer_all(answers, annotator, answer=ANSWER):
    keys = []
    while shown := answers.state(annotator)["next"]:
        keys.append(shown[0].key)
        answers.answer(annotator, keys[-1], answer)
    return keys


def test_every_item_once_in_an_order_and_on_sides_of_ones_own():
    wanted = task(200)
    orders = {name: showings(wanted, name) for name in ("ann", "bob")}
    for order in orders.values():
        assert sorted(s.item.id for s in order) == sorted(item.id for item in wanted.items)
        swapped = np.mean([s.clips != s.item.clips for s in order])
        assert abs(swapped - 0.5) < 0.12  # three deviations
    sides = [{s.key: s.clips for s in order} for order in orders.values()]
    assert abs(np.mean([sides[0][k] == sides[1][k] for k in sides[0]]) - 0.5) < 0.12
    assert [s.key for s in orders["ann"]] != [s.key for s in orders["bob"]]
    assert showings(wanted, "ann") == orders["ann"]
    assert showings(dataclasses.replace(wanted, seed=1), "ann") != orders["ann"]


def test_the_order_of_clips_in_an_item_does_not_matter_for_its_name():
    (item,) = items(1)
    other = dataclasses.replace(item, clips=item.clips[::-1], sources=item.sources[::-1])
    assert other.id == item.id


def test_checks_come_at_their_rate_twins_and_repeats_in_turn():
    order = showings(task(40, checks=0.1), "ann")
    checks = [(place, s) for place, s in enumerate(order) if s.check]
    assert [s.check for _, s in checks] == ["twin", "repeat", "twin", "repeat"]
    before = {s.key: (place, s) for place, s in enumerate(order)}
    for place, check in checks:
        earlier, item = before[check.item.id]
        assert place - earlier >= 10
        if check.check == "twin":
            assert check.clips[0] == check.clips[1]
        else:
            assert check.clips == item.clips[::-1]
    assert {s.check for s in showings(task(40, kind="grade", checks=0.1), "a")} == {"", "repeat"}
    assert not any(s.check for s in showings(task(40), "ann"))


def test_a_task_that_grows_keeps_the_sides_of_what_it_had():
    small, large = task(10), task(30)
    sides = {s.key: s.clips for s in showings(large, "ann")}
    kept = [s.key for s in showings(small, "ann")]
    assert {s.key: s.clips for s in showings(small, "ann")}.items() <= sides.items()
    assert [key for key in sides if key in kept] == kept


def test_a_limit_draws_at_random_and_a_larger_one_adds():
    every = items(50)
    few, more = chosen(every, 10, 0), chosen(every, 20, 0)
    assert len(few) == 10
    assert set(few) < set(more) < set(every)
    assert few != every[:10]
    assert chosen(every, 0, 0) == chosen(every, 99, 0) == every


def test_with_votes_others_are_asked_what_is_left(started):
    answers = started(task(6, votes=1, checks=0.5))
    for _ in range(3):
        answers.answer("ann", answers.state("ann")["next"][0].key, ANSWER)
    mine = {e["key"] for e in answers.standing().by_annotator["ann"].values() if not e["check"]}
    theirs = answer_all(answers, "bob")
    assert not mine & set(theirs)
    assert len(mine) + len([k for k in theirs if "-" not in k]) == 6
    assert all(k.split("-")[1] in theirs for k in theirs if "-" in k)  # checks of his own items


def test_undo_takes_answers_back_one_by_one_also_after_a_restart(started, tmp_path):
    wanted = task(4)
    answers = started(wanted)
    keys = answer_all(answers, "ann")
    assert answers.state("ann")["next"] == []
    for key in reversed(keys[2:]):
        assert answers.state("ann")["last"] == key
        answers.undo("ann", key)
        answers.undo("ann", key)  # sent twice: a lost reply
        state = answers.state("ann")
        assert (state["next"][0].key, state["before"]["answer"]) == (key, ANSWER)
    again = Answers(wanted, Journal(tmp_path / JOURNAL, wanted))
    assert again.state("ann") == answers.state("ann")
    assert (again.state("ann")["done"], again.state("ann")["left"]) == (2, 2)
    changed = ANSWER | {"visual_quality": "right"}
    again.answer("ann", keys[2], changed)
    assert again.standing().by_annotator["ann"][keys[2]]["answer"] == changed
    assert again.state("ann")["last"] == keys[2]
    assert again.standing().undos["ann"] == 2
    again.undo("bob", keys[0])  # who has answered nothing
    assert again.state("bob")["done"] == 0


def test_an_answer_sent_twice_counts_once_and_another_one_is_refused(started):
    answers = started(task(3))
    key = answers.state("ann")["next"][0].key
    for _ in range(2):
        answers.answer("ann", key, ANSWER)
    assert answers.state("ann")["done"] == 1
    with pytest.raises(AnsweredOtherwise, match="in another window"):
        answers.answer("ann", key, ANSWER | {"visual_quality": "right"})
    assert answers.known_as("ANN") == "ann"
    assert answers.known_as("Bob") == "Bob"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"visual_quality": "left"}, "answer all of visual_quality, motion_quality"),
        (ANSWER | {"overall": "left"}, "and nothing else"),
        (ANSWER | {"visual_quality": "A"}, "visual_quality='A': known are left, tie, right"),
        (ANSWER | {"visual_quality": ["left"]}, "visual_quality="),
    ],
)
def test_what_is_no_answer_is_refused(started, answer, message):
    answers = started(task(3))
    key = answers.state("ann")["next"][0].key
    with pytest.raises(ValueError, match=message):
        answers.answer("ann", key, answer)
    with pytest.raises(ValueError, match="nothing called 'x' is asked"):
        answers.answer("ann", "x", ANSWER)
    assert answers.state("ann")["done"] == 0
