import json

import pandas as pd
import pytest

from vidpref.datasets.benchmarks import read_benchmark
from vidpref.runs import judge_evaluation as evaluation


@pytest.fixture
def pairs(tmp_path):
    """Four pairs of two prompts, one of them a tie, with scores of people beside."""
    rows = [
        {
            "prompt": f"prompt {i // 2}",
            "clip_a": f"{i}a.mp4",
            "clip_b": f"{i}b.mp4",
            "verdict": {"look": "tie" if i == 3 else "A"},
            "scores_a": {"look": 4.0 - i},
        }
        for i in range(4)
    ]
    for i in range(4):
        for side in "ab":
            (tmp_path / f"{i}{side}.mp4").touch()
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def judged(pairs, table, match=(), **how):
    path = pairs.parent / "table.csv"
    table.to_csv(path, index=False)
    read = read_benchmark(pairs)
    about = evaluation.about(read, str(pairs), "me")
    return evaluation.measure(read, evaluation.read_scores(path), dict(match), about=about, **how)


def test_verdicts_in_both_orders_are_measured_and_written(pairs, tmp_path):
    said = {0: ("A", "B"), 1: ("A", "A"), 2: ("what?", "B"), 3: ("B", "A")}  # A first, B first
    rows = [
        row
        for i, (shown, swapped) in said.items()
        for row in ((f"{i}a.mp4", f"{i}b.mp4", shown), (f"{i}b.mp4", f"{i}a.mp4", swapped))
    ]
    found = judged(pairs, pd.DataFrame(rows, columns=["clip_a", "clip_b", "look"]))
    (one,) = found.accuracy
    # margins 1, 0 (it took the first twice), 1 (one answer could be read), -1
    assert (one.votes, one.failed, one.without_ties.mean) == (4, 0, 2 / 3)
    assert (one.position.pairs, one.position.flips.mean) == (3, 1 / 3)
    text = found.text()
    assert text.startswith("me on pairs.jsonl (preferences): 4 votes, 8 clips, 2 prompts\n")
    assert "Position bias" in text
    paths = evaluation.write(tmp_path / "out", found)
    assert [path.name for path in paths] == ["accuracy.md", "accuracy.csv", "accuracy.png"]
    assert "| look | 3 | 33.3 [" in paths[0].read_text()


def test_people_who_scored_clips_are_compared_too(pairs):
    table = pd.DataFrame(
        {
            "clip": [f"{i}{side}.mp4" for i in range(4) for side in "ab"],
            "look": [8.0, 1.0, 6.0, 1.0, 4.0, 5.0, 2.0, ""],
        }
    )
    found = judged(pairs, table)
    (one,), (agreement,) = found.accuracy, found.agreement
    assert (one.votes, one.failed, one.without_ties.mean) == (3, 1, 2 / 3)
    assert agreement.correlation.pearson == pytest.approx(1.0, abs=1e-12)
    assert "Agreement on scores" in found.text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,look\na,1\n", "no column clip, as tables of scores have"),
        ("clip,look\n", "no row in it"),
        ("clip,look\na,1,2\n", "line 2: 3 fields, but the header has 2"),
        ("clip,sound\n0a.mp4,1\n", "people voted on look, and the judge has sound"),
        ("clip,look\nx.mp4,1\n", "the scores are of other clips"),
        ("clip,look\n0a.mp4,1\n0b.mp4,2\n", "6 of 8 clips that people voted on have no score"),
    ],
)
def test_tables_that_cannot_be_used(pairs, tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        evaluation.measure(read_benchmark(pairs), evaluation.read_scores(tmp_path / "t.csv"), {})


def test_files_that_are_no_table(tmp_path):
    (tmp_path / "t.parquet").write_text("x")
    for name, message in (
        ("t.parquet", "no Parquet file that can be read"),
        ("t.json", "wanted a table that ends in"),
        ("gone.csv", "no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.read_scores(tmp_path / name)
