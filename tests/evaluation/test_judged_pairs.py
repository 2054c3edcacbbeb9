import numpy as np
import pandas as pd
import pytest

from vidpref.evaluation.judged_pairs import judged_by_scores, judged_by_verdicts, matched

NAN = float("nan")


def comparisons(*rows):
    """(clip a, clip b, dimension, verdict) each."""
    columns = ["clip_a", "clip_b", "dimension", "verdict"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(prompt=["p" if a < "c" else "q" for a in frame["clip_a"]])


VOTES = comparisons(
    ("a", "b", "motion", "A"),
    ("a", "b", "overall", "tie"),
    ("c", "d", "motion", "B"),
    ("d", "c", "overall", "invalid"),
)


def scores(**columns):
    return pd.DataFrame({"clip": ["a", "./b", "c", "d"], **columns})


def test_margins_are_joined_by_clip_and_not_by_row():
    table = scores(motion=[1.0, 4.0, 2.0, NAN], look=[1.0, 0.0, 5.0, 7.0]).iloc[::-1]
    motion, overall = judged_by_scores(VOTES, table, {"overall": ["motion", "look"]})
    np.testing.assert_array_equal(motion.votes, [1, -1])
    np.testing.assert_array_equal(motion.margins, [-3, NAN])
    assert motion.prompts.tolist() == [0, 1]
    np.testing.assert_array_equal(overall.votes, [0, NAN])
    np.testing.assert_array_equal(overall.margins, [-1, NAN])
    assert (overall.columns, overall.shown) == (("motion", "look"), None)


def test_numbers_of_a_csv_are_read():
    table = scores(motion=["1.5", "", "2", "1"])
    (motion,) = judged_by_scores(VOTES, table, {"motion": ["motion"]})[:1]
    np.testing.assert_array_equal(motion.margins, [NAN, 1.0])
    with pytest.raises(ValueError, match="a: motion='high' is not a finite number"):
        judged_by_scores(VOTES, scores(motion=["high", "1", "2", "1"]))


@pytest.mark.parametrize(
    ("voted", "columns", "match", "found"),
    [
        (["motion", "overall"], ["motion", "overall"], {}, {"motion": 1, "overall": 1}),
        (["motion", "overall"], ["motion", "look"], {}, {"motion": 1, "overall": 1}),
        (["m", "l", "overall"], ["m", "l", "x"], {}, {"m": 1, "l": 1, "overall": 2}),
        (["overall"], ["accept", "x"], {}, {"overall": 1}),
        (["overall"], ["x"], {}, {"overall": 1}),
        (["overall", "m"], ["m", "x"], {"overall": ["x", "m"]}, {"overall": 2, "m": 1}),
    ],
)
def test_what_stands_for_what(voted, columns, match, found):
    names = matched(voted, columns, match)
    assert {name: len(chosen) for name, chosen in names.items()} == found


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ({"motoin": ["x"]}, r"nobody voted on 'motoin'; did you mean motion\?"),
        ({"motion": ["loook"]}, r"the judge has no 'loook'; did you mean look\?"),
        ({}, "people voted on motion, overall, and the judge has look, x: say what stands for"),
    ],
)
def test_what_cannot_stand_for_it(match, message):
    with pytest.raises(ValueError, match=message):
        matched(["motion", "overall"], ["look", "x"], match)


def test_scores_that_lack_pairs_are_refused_unless_partial():
    table = scores(motion=[1.0, 2.0, 3.0, 4.0]).head(3)
    with pytest.raises(ValueError, match=r"1 of 4 clips that people voted on have no score: d\. H"):
        judged_by_scores(VOTES, table)
    motion, overall = judged_by_scores(VOTES, table, partial=True)
    assert (len(motion.votes), len(overall.votes)) == (1, 1)
    with pytest.raises(ValueError, match="the scores are of other clips: none of the 4"):
        judged_by_scores(VOTES, table.assign(clip=["x", "y", "z"]), partial=True)
    with pytest.raises(ValueError, match="b is scored twice"):
        judged_by_scores(VOTES, table.assign(clip=["a", "b", "./b"]))


def test_scores_for_another_prompt_are_refused():
    table = scores(motion=[1.0, 2.0, 3.0, 4.0], prompt=["p", "p", "q", "q"])
    assert len(judged_by_scores(VOTES, table)) == 2
    table["prompt"] = ["p", "p", "q", "x"]
    with pytest.raises(ValueError, match="d was scored for 'x', and people saw it for 'q'"):
        judged_by_scores(VOTES, table)


def verdicts(*rows):
    return pd.DataFrame(rows, columns=["clip_a", "clip_b", "overall"])


def test_verdicts_in_both_orders():
    votes = comparisons(
        ("a", "b", "overall", "A"), ("b", "a", "overall", "tie"), ("c", "d", "overall", "B")
    )  # fmt: skip
    table = verdicts(("a", "b", "A"), ("b", "a", "A"), ("c", "d", "garbage"), ("d", "c", "A"))
    (found,) = judged_by_verdicts(votes, table)
    np.testing.assert_array_equal(found.shown, [1, 1, NAN])
    np.testing.assert_array_equal(found.swapped, [-1, -1, -1])
    np.testing.assert_array_equal(found.margins, [0, 0, -1])
    np.testing.assert_array_equal(found.votes, [1, 0, -1])


def test_verdicts_that_lack_pairs_or_stand_twice():
    votes = comparisons(("a", "b", "overall", "A"), ("c", "d", "overall", "A"))
    table = verdicts(("b", "a", "A"))
    with pytest.raises(
        ValueError, match="1 of 2 pairs that people voted on have no score: c and d"
    ):
        judged_by_verdicts(votes, table)
    (found,) = judged_by_verdicts(votes, table, partial=True)
    np.testing.assert_array_equal(found.margins, [-1])
    with pytest.raises(ValueError, match="b and a stand twice"):
        judged_by_verdicts(votes, pd.concat([table, table]))
    with pytest.raises(ValueError, match="verdicts have no mean"):
        judged_by_verdicts(votes, table.assign(x="A"), {"overall": ["x", "overall"]})
