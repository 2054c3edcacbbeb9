import numpy as np
import pandas as pd
import pytest
from preference_files import rows_of

from vidpref.datasets.preferences import Preferences
from vidpref.datasets.preferences.frames import CLIPS, COMPARISONS, SCORES
from vidpref.datasets.preferences.selection import (
    ClipReport,
    PreferenceReport,
    labelled_clips,
    motion_of,
    preferred_pairs,
    winners_and_losers,
)


def preferences(comparisons=(), scores=(), clips=()):
    """Comparisons "a b VQ A [judge]", scores "a VQ 1.5 [judge]"; a clip's prompt is its letter."""
    said = [[*text.split(), ""][:5] for text in comparisons]
    given = [[*text.split(), ""][:4] for text in scores]
    names = sorted({*(n for row in said for n in row[:2]), *(row[0] for row in given), *clips})
    prompts = {name: f"prompt {name[0]}" for name in names}
    return Preferences(
        clips=pd.DataFrame(
            [(n, f"/{n}.mp4", prompts[n], "", np.nan, np.nan) for n in names], columns=list(CLIPS)
        ).astype(CLIPS),
        comparisons=pd.DataFrame(
            [(a, b, prompts[a], d, v, j, "", np.nan, np.nan) for a, b, d, v, j in said],
            columns=list(COMPARISONS),
        ).astype(COMPARISONS),
        scores=pd.DataFrame(
            [(c, d, float(s), j, "") for c, d, s, j in given], columns=list(SCORES)
        ).astype(SCORES),
    )


MANY = [
    "a0 a1 VQ A", "a0 a1 MQ B", "a0 a1 TA A",  # a0 by VQ, a1 by 2 MQ
    "a2 a0 VQ tie", "a2 a0 MQ B",
    "b0 b1 VQ tie", "b0 b1 MQ tie",
    "c0 c1 VQ invalid", "c0 c1 MQ invalid",
    "d0 d1 TA A",
    "e0 e1 VQ A x", "e0 e1 VQ B y", "e0 e1 MQ A x",
    "f0 f1 VQ invalid", "f0 f1 MQ B", "f1 f0 MQ A", "f0 f1 MQ B",
    "g0 g1 VQ A x", "g0 g1 VQ tie y",
]  # fmt: skip


def test_pairs_by_hand():
    pairs, report = preferred_pairs(preferences(MANY), {"VQ": 1.0, "MQ": 2})
    assert rows_of(pairs, "prompt", "winner", "loser", "margin") == [
        ("prompt a", "a0", "a2", 2.0),
        ("prompt a", "a1", "a0", 1.0),
        ("prompt f", "f1", "f0", 2.0),
        ("prompt g", "g0", "g1", 0.5),
    ]
    assert report == PreferenceReport(
        compared=8, chosen=4, ties=1, conflicting=1, invalid=1, unlabelled=1, repeated=2, mixed=1
    )


def test_three_dimensions_of_one_weight_vote():
    """B, B, A is a preference for B, by a third; A, B, tie is none."""
    said = ["a0 a1 VQ B", "a0 a1 MQ B", "a0 a1 TA A", "b0 b1 VQ A", "b0 b1 MQ B", "b0 b1 TA tie"]
    pairs, report = preferred_pairs(preferences(said), dict.fromkeys(("VQ", "MQ", "TA"), 1 / 3))
    assert rows_of(pairs, "winner", "loser") == [("a1", "a0")]
    assert pairs["margin"].item() == pytest.approx(1 / 3)
    assert (report.chosen, report.mixed, report.ties) == (1, 1, 1)
    assert str(report) == (
        "2 pairs of train prompts compared: 1 have a winner (1 of them against a dimension), 1 are "
        "ties, 0 have judges who disagree, 0 are invalid, 0 have no verdict that counts"
    )


def test_weights():
    read = preferences(MANY)
    assert preferred_pairs(read, {"TA": 3.0, "VQ": 0.0})[0]["winner"].to_list() == ["a0", "d0"]
    assert preferred_pairs(read, {"TA": -1.0})[0]["winner"].to_list() == ["a1", "d1"]
    # 0.1 + 0.2 - 0.3 is not zero in floating point
    three = preferences(["a0 a1 VQ A", "a0 a1 MQ A", "a0 a1 TA B"])
    assert preferred_pairs(three, {"VQ": 0.1, "MQ": 0.2, "TA": 0.3})[1].ties == 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"VQ": 1.0, "quality": 1.0}, "no clip has a verdict in .* 'quality'; known: MQ, TA, VQ"),
        ({}, "finite weight other than zero"),
        ({"VQ": 0.0}, "finite weight other than zero"),
        ({"VQ": float("inf")}, "finite weight other than zero"),
    ],
)
@pytest.mark.parametrize("select", [preferred_pairs, labelled_clips])
def test_bad_weights(select, weights, message):
    with pytest.raises(ValueError, match=message):
        select(preferences(MANY), weights)


def test_nothing_valid():
    read = preferences(["a0 a1 VQ invalid", "b0 b1 VQ invalid"])
    pairs, report = preferred_pairs(read, {"VQ": 1.0})
    assert pairs.empty
    assert list(pairs) == ["prompt", "winner", "loser", "margin"]
    assert (report.compared, report.chosen, report.invalid) == (2, 0, 2)
    clips, report = labelled_clips(read, {"VQ": 1.0})
    assert clips.empty
    assert (report.clips, report.invalid) == (4, 4)
    rows, report = winners_and_losers(read, {"VQ": 1.0}, losers=2)
    assert list(rows) == ["prompt", "winner", "loser_0", "loser_1"]
    assert (report.winners, report.rows, report.too_few) == (0, 0, ())


def test_clips_by_wins_minus_losses():
    read = preferences(MANY, clips=["h0"])
    clips, report = labelled_clips(read, {"VQ": 1.0, "MQ": 2.0})
    # a0: one won, one lost
    assert rows_of(clips, "prompt", "clip", "reward") == [
        ("prompt a", "a1", 1.0),
        ("prompt a", "a2", 0.0),
        ("prompt f", "f0", 0.0),
        ("prompt f", "f1", 1.0),
        ("prompt g", "g0", 1.0),
        ("prompt g", "g1", 0.0),
    ]
    assert report == ClipReport(
        clips=16, positive=3, negative=3, even=3, conflicting=2, invalid=2, unlabelled=3
    )


def test_clips_by_score():
    read = preferences(
        scores=["a0 VQ 1", "a0 MQ -0.25", "a1 VQ -1 x", "a1 VQ 0.5 y", "a1 MQ 0",
                "b0 VQ 2", "b0 MQ -1", "b1 VQ 3", "c0 TA 1"],
    )  # fmt: skip
    clips, report = labelled_clips(read, {"VQ": 1.0, "MQ": 2.0})
    assert rows_of(clips, "clip", "reward") == [("a0", 1.0), ("a1", 0.0)]
    assert report == ClipReport(
        clips=5, positive=1, negative=1, even=1, conflicting=0, invalid=0, unlabelled=2
    )
    with pytest.raises(ValueError, match="no clip has a score in the dimension 'real'; known: MQ"):
        labelled_clips(read, {"real": 1.0})


def test_winners_with_enough_losers():
    read = preferences(
        [f"a a{i} real A" for i in range(4)]
        + [f"b{i} b real B" for i in (2, 0, 1)]
        + ["c c0 real A", "c c1 real A", "d d0 real tie"]
    )
    rows, report = winners_and_losers(read, {"real": 1.0}, losers=3)
    assert list(rows.itertuples(index=False, name=None)) == [
        ("prompt a", "a", "a0", "a1", "a2"),
        ("prompt b", "b", "b0", "b1", "b2"),
    ]
    assert list(rows) == ["prompt", "winner", "loser_0", "loser_1", "loser_2"]
    assert (report.winners, report.rows, report.too_few, report.unused) == (3, 2, ("c",), 1)
    assert report.pairs == preferred_pairs(read, {"real": 1.0})[1]
    with pytest.raises(ValueError, match="losers=0 must be at least 1"):
        winners_and_losers(read, {"real": 1.0}, losers=0)


def test_motion():
    read = preferences(
        scores=["b object_motion 4 x", "b object_motion 2 y", "b camera_motion 1",
                "a camera_motion 0", "a object_motion 5", "a VQ 9"],
    )  # fmt: skip
    motion = motion_of(read)
    assert list(motion.index) == ["a", "b"]
    assert list(motion) == ["object_motion", "camera_motion"]
    np.testing.assert_array_equal(motion.to_numpy(), [[5.0, 0.0], [3.0, 1.0]])
    read = preferences(scores=["a object_motion 4"], clips=["b", "c", "d"])
    with pytest.raises(ValueError, match=r"4 of 4 clips have no score for .* first are a, b, c:"):
        motion_of(read)


@pytest.mark.parametrize("seed", range(20))
def test_neither_the_order_of_rows_nor_of_clips_matters(seed):
    rng = np.random.default_rng(seed)
    rows = [
        f"{prompt}{i} {prompt}{j} {dimension} {rng.choice(['A', 'B', 'tie', 'invalid'])} {judge}"
        for prompt in "abc"
        for i in range(4)
        for j in range(i)
        for dimension in ("VQ", "MQ", "TA")
        for judge in ("x", "y")
        if rng.random() < 0.4
    ]
    turned = []
    for row in rng.permutation(rows):
        a, b, dimension, verdict, judge = row.split()
        if rng.random() < 0.5:
            a, b, verdict = b, a, {"A": "B", "B": "A"}.get(verdict, verdict)
        turned.append(f"{a} {b} {dimension} {verdict} {judge}")
    assert turned != rows
    weights = {"VQ": 0.7, "MQ": 0.2, "TA": 0.5}
    clips = [f"{prompt}{i}" for prompt in "abc" for i in range(4)]
    one, other = preferences(rows, clips=clips), preferences(turned, clips=clips)
    for select in (
        preferred_pairs,
        labelled_clips,
        lambda read, weights: winners_and_losers(read, weights, losers=1),
    ):
        table, report = select(one, weights)
        again, same = select(other, weights)
        pd.testing.assert_frame_equal(table, again, check_exact=True)
        assert report == same
        assert len(table)
