"""Answers as records that training and the evaluation of judges read, and as tables."""

import itertools

import pytest
from annotation_examples import DIMENSIONS, entry

from vidpref.annotation.answers import Standing
from vidpref.annotation.records import records, write_records
from vidpref.annotation.summary import agreement, annotators, grades, preferred, tables
from vidpref.datasets.preferences import read_preferences
from vidpref.datasets.preferences.gaps import stated_gaps
from vidpref.datasets.preferences.selection import labelled_clips, preferred_pairs

WEIGHTS = dict.fromkeys(DIMENSIONS, 1.0)
# item 0: all prefer "new", on whichever side; 1: two of three do; 2: one each; 3: nobody can say
VOTES = [
    *(entry("ann", 0, "right"), entry("bob", 0, "left", left="new"), entry("cy", 0, "right")),
    *(entry("ann", 1, "right", note="smooth"), entry("bob", 1, "right"), entry("cy", 1, "left")),
    *(entry("ann", 2, "left"), entry("bob", 2, "right"), entry("cy", 2, "invalid")),
    *(entry("ann", 3, "invalid"), entry("bob", 3, "invalid", note="black")),
]


def read(folder, entries, aggregate, kind="compare"):
    """The records of answers, as `config.data.pairs` is read."""
    for number, source in itertools.product(range(5), ("old", "new")):
        (folder / source).mkdir(exist_ok=True)
        (folder / source / f"{number}.mp4").touch()
    return read_preferences(write_records(folder, records(entries, kind, DIMENSIONS, aggregate)))


def test_each_annotator_is_a_judge_and_who_disagree_give_nothing(tmp_path):
    found = read(tmp_path, VOTES, "each")
    assert len(found.comparisons) == 2 * len(VOTES)
    assert set(found.comparisons["judge"]) == {"ann", "bob", "cy"}
    assert {"smooth", "black"} <= set(found.comparisons["rationale"])
    pairs, report = preferred_pairs(found, WEIGHTS)
    assert list(zip(pairs["winner"], pairs["loser"], strict=True)) == [("new/0.mp4", "old/0.mp4")]
    assert (report.chosen, report.conflicting, report.invalid) == (1, 2, 1)


def test_the_majority_decides_and_the_soft_vote_says_by_how_much(tmp_path):
    for aggregate in ("majority", "soft"):
        found = read(tmp_path, VOTES, aggregate)
        pairs, report = preferred_pairs(found, WEIGHTS)
        assert list(pairs["winner"]) == ["new/0.mp4", "new/1.mp4"]
        assert (report.ties, report.invalid) == (1, 1)
        gaps = stated_gaps(found, pairs, WEIGHTS)
        expected = [2.0, 2 / 3] if aggregate == "soft" else [float("nan")] * 2
        assert gaps == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert set(found.comparisons["judge"]) == {"soft vote of 3", "soft vote of 2"}
    assert set(found.comparisons["rationale"]) == {"", "ann: smooth", "bob: black"}


@pytest.mark.parametrize(
    ("said", "verdict", "gap"),
    [
        (["right", "right", "left"], "A", 1 / 3),
        (["left", "tie", "tie"], "tie", -1 / 3),
        (["left", "tie"], "tie", -1 / 2),
        (["left", "invalid", "invalid"], "B", -1.0),
        (["left", "right", "tie"], "tie", 0.0),
        (["invalid"], "invalid", 0.0),
    ],
)
def test_rules_of_the_vote(said, verdict, gap):
    """Clip A of the records is new/0.mp4, which stands on the right."""
    votes = [entry(f"person {n}", 0, word) for n, word in enumerate(said)]
    (line,) = records(votes, "compare", DIMENSIONS, "soft")
    assert (line["clip_a"], line["clip_b"]) == ("new/0.mp4", "old/0.mp4")
    assert line["verdict"] == dict.fromkeys(DIMENSIONS, verdict)
    assert line["score_gap"] == pytest.approx(dict.fromkeys(DIMENSIONS, gap), abs=1e-6)


def graded(annotator, number, grade, source="old"):
    answer = {"visual_quality": grade, "motion_quality": "invalid"}
    fields = {"clips": [f"{source}/{number}.mp4"], "sources": [source], "answer": answer}
    return entry(annotator, number, "tie", **fields)


def test_grades_have_their_zero_between_good_and_bad(tmp_path):
    entries = [graded("ann", n, grade) for n, grade in enumerate(["5", "1", "3", "invalid"])]
    entries.append(graded("bob", 0, "4"))
    found = read(tmp_path, entries, "each", "grade")
    scores = found.scores.sort_values(["clip", "judge"])
    assert list(scores["score"]) == [2.0, 1.0, -2.0, 0.0]
    clips, report = labelled_clips(found, {"visual_quality": 1.0})
    rewards = dict(zip(clips["clip"], clips["reward"], strict=True))
    assert rewards == {"old/0.mp4": 1.0, "old/1.mp4": 0.0}
    assert report.even == 1
    (row, *_) = grades(entries, ["visual_quality"]).rows
    assert row[:3] == ["old", "visual quality", 4]
    assert row[3].value == pytest.approx((5 + 1 + 3 + 4) / 4)
    with pytest.raises(ValueError, match="--aggregate=soft goes with comparisons"):
        records(entries, "grade", DIMENSIONS, "soft")
    said = agreement(entries, "grade", DIMENSIONS)
    assert said.rows[0][:4] == ["visual quality", 5, 1, 1]
    assert "ordinal" in said.caption


def test_two_annotators_alpha_is_that_of_the_closed_form():
    """Eight items, alike in six: D_o = 2 / 8, and of 16 values 8 are A and 8 are B."""
    alike = [entry(who, n, "right" if n % 2 else "left") for n in range(6) for who in ("a", "b")]
    apart = [entry(who, n, said) for n in (6, 7) for who, said in (("a", "left"), ("b", "right"))]
    found = agreement([*alike, *apart], "compare", DIMENSIONS)
    assert found.columns[3:5] == ["Invalid", "By several"]
    for row in found.rows:
        assert row[1:5] == [16, 0, 0, 8]
        assert row[5].value == pytest.approx(1 - (2 / 8) / (2 * 8 * 8 / (16 * 15)), abs=1e-12)
        assert -1 <= row[5].low < row[5].value < row[5].high <= 1
    # sides do not matter: the same verdicts with the clips the other way round
    other = {"left": "right", "right": "left"}
    turned = [
        entry(
            e["annotator"], int(e["prompt"][-1]), other[e["answer"]["visual_quality"]], left="new"
        )
        if e["annotator"] == "b"
        else e
        for e in [*alike, *apart]
    ]
    assert agreement(turned, "compare", DIMENSIONS).rows == found.rows


def test_who_won_counts_ties_half_and_leaves_out_invalid_answers():
    found = preferred(VOTES, ["visual_quality"])
    (row,) = found.rows
    assert row[:6] == ["new", "old", "visual quality", 6, 0, 2]
    assert row[6].value == pytest.approx(6 / 8)
    against = [entry("ann", 0, "right", sources=["pretrained", "rwr"])]
    assert preferred(against, DIMENSIONS).rows[0][:2] == ["rwr", "pretrained"]
    one = [entry("ann", 0, "right", sources=["old", "old"])]
    assert preferred(one, DIMENSIONS) is None
    assert len(tables(Standing(one), "compare", DIMENSIONS)) == 2


def test_attention_checks_and_sides_are_told_of_each_annotator():
    first = entry("ann", 0, {"visual_quality": "left", "motion_quality": "tie"})
    again = entry("ann", 0, {"visual_quality": "right", "motion_quality": "left"}, left="new")
    twins = [
        entry("ann", n, said, check="twin", key=f"twin-{n}", clips=["a", "a"])
        for n, said in ((1, "tie"), (2, "left"))
    ]
    repeat = again | {"check": "repeat", "key": f"repeat-{first['key']}"}
    undone = [entry("ann", 3, "right"), {"annotator": "ann", "undo": entry("ann", 3, "tie")["key"]}]
    standing = Standing([first, repeat, *twins, *undone])
    assert standing.answers() == [first]
    assert len(standing.answers(checks=True)) == 3
    (row,) = annotators(standing).rows
    assert row == ["ann", 1, 0, 1, "2.0", "100 %", "1 of 2", "1 of 2"]
