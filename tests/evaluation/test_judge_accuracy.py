import numpy as np
import PIL.Image
import pytest

from vidpref.evaluation.intervals import clustered_rate
from vidpref.evaluation.judge_accuracy import judge_accuracy
from vidpref.evaluation.judge_figure import draw_accuracy
from vidpref.evaluation.judge_tables import accuracy_frame, accuracy_table, position_table
from vidpref.evaluation.judged_pairs import JudgedPairs

NAN = float("nan")


def pairs(votes, margins, **more):
    prompts = np.arange(len(votes)) // 2
    columns = more.pop("columns", ("motion",))
    return JudgedPairs("motion", columns, np.array(votes), np.array(margins), prompts, **more)


BY_HAND = pairs(
    # right, tie within 0.1, wrong, judge failed, no label, tie missed
    [1.0, 0.0, -1.0, 1.0, NAN, 0.0],
    [2.0, 0.1, 1.0, NAN, 3.0, 1.5],
)


def test_counted_by_hand():
    found = judge_accuracy(BY_HAND)
    assert (found.votes, found.prompts, found.failed, found.unlabelled) == (4, 3, 1, 1)
    assert found.ties == 0.5
    # ties up to 1.5: the first alone is apart, both ties are right and the wrong one stays wrong
    assert (found.with_ties.mean, found.threshold) == (0.75, 1.5)
    assert found.official == 3 / 5
    assert found.without_ties.mean == 0.5
    right, prompts = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 2])
    assert found.with_ties == clustered_rate(right, prompts)
    # people 1 0 -1 0, judge 1 0 0 0: p_o = 3/4, p_e = 1/4 1/4 + 1/2 3/4
    assert found.kappa == pytest.approx((3 / 4 - 7 / 16) / (9 / 16), abs=1e-12)
    assert found.position is None


def test_intervals_are_over_prompts():
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(40) < 0.7, 5)
    votes = np.ones(200)
    margins = np.where(right, 1.0, -1.0) * (1 + rng.random(200))
    alike = JudgedPairs("m", ("m",), votes, margins, np.repeat(np.arange(40), 5))
    apart = JudgedPairs("m", ("m",), votes, margins, np.arange(200))
    widths = [
        judge_accuracy(p).without_ties.high - judge_accuracy(p).without_ties.low
        for p in (alike, apart)
    ]
    assert widths[0] > 1.7 * widths[1]  # sqrt(5) where clips of a prompt are all alike


def test_nothing_to_measure_on():
    with pytest.raises(
        ValueError, match=r"motion: none of 2 votes .*: 1 have no label.* failed on 1"
    ):
        judge_accuracy(pairs([NAN, 1.0], [1.0, NAN]))


def test_only_ties_have_no_accuracy_without_them():
    found = judge_accuracy(pairs([0.0, 0.0], [1.0, 2.0]))
    assert found.without_ties is None
    assert found.with_ties.mean == 1.0
    assert "–" in accuracy_table([found]).to_markdown()


def of_pairs():
    shown, swapped = np.array([1.0, 1.0, 0.0]), np.array([1.0, -1.0, NAN])
    margins = np.array([1.0, 0.0, 0.0])
    return pairs([1.0, 0.0, 0.0], margins, shown=shown, swapped=swapped, columns=("overall",))


def test_tables_say_what_was_measured():
    found = [judge_accuracy(BY_HAND), judge_accuracy(of_pairs())]
    text = accuracy_table(found).to_markdown()
    assert "| motion | 4 | 3 | 50.0 | 75.0 [" in text
    assert "| motion (overall) | 3 | 2 |" in text
    assert position_table(found[:1]) is None
    table = position_table(found)
    assert [table.rows[0][i] for i in (0, 1, 4)] == ["motion", 2, 75.0]
    frame = accuracy_frame(found)
    assert frame["with_ties"].tolist() == [0.75, 1.0]
    assert frame["official"].tolist() == [0.6, 1.0]
    assert frame["position_flips"].tolist()[1] == 0.5
    assert {"with_ties_low", "pearson_p", "position_first", "columns"} <= set(frame)


def test_the_picture_has_a_line_a_dimension(tmp_path):
    found = [judge_accuracy(BY_HAND), judge_accuracy(pairs([0.0, 0.0], [1.0, 2.0]))]
    draw_accuracy(tmp_path / "one.png", found[:1], "a judge")
    draw_accuracy(tmp_path / "two.png", found, "a judge")
    sizes = [PIL.Image.open(tmp_path / f"{name}.png").size for name in ("one", "two")]
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] < sizes[1][1]
    colours = np.asarray(PIL.Image.open(tmp_path / "two.png").convert("RGB")).reshape(-1, 3)
    for colour in ((0x1F, 0x86, 0xC8), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert (
            np.abs(colours.astype(int) - colour).max(1) < 8
        ).sum() > 30  # judge, random, official
