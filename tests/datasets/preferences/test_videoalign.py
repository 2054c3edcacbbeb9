import math
from pathlib import Path

import pytest
from preference_files import HEADER, rows_of, touch, write_csv

from vidpref.datasets.preferences import read_preferences

EXAMPLE = Path(__file__).parents[4] / "shared" / "data" / "videoalign_example" / "example.csv"


@pytest.fixture
def root(tmp_path):
    touch(tmp_path, "v/a.mp4", "v/b.mp4", "v/c.mp4")
    return tmp_path


def row(a="v/a.mp4", b="v/b.mp4", prompt="a ball", labels="A,same,invalid", rest="24,48,16.5,33"):
    return [a, b, prompt, *labels.split(","), *rest.split(",")]


def test_labels_and_numbers(root):
    path = write_csv(root, row(), row(b="./v/c.mp4", labels="B,B,A", rest="24,48,,"))
    read = read_preferences(path)
    assert rows_of(read.clips.iloc[:2], "id", "prompt", "source", "fps", "frames") == [
        ("v/a.mp4", "a ball", "", 24.0, 48.0),
        ("v/b.mp4", "a ball", "", 16.5, 33.0),
    ]
    assert list(read.clips["path"]) == [str(root / "v" / f"{name}.mp4") for name in "abc"]
    assert read.clips.loc[2, ["fps", "frames"]].isna().all()
    assert rows_of(read.comparisons, "clip_a", "clip_b", "dimension", "verdict") == [
        ("v/a.mp4", "v/b.mp4", "visual_quality", "A"),
        ("v/a.mp4", "v/b.mp4", "motion_quality", "tie"),
        ("v/a.mp4", "v/b.mp4", "text_alignment", "invalid"),
        ("v/a.mp4", "v/c.mp4", "visual_quality", "B"),
        ("v/a.mp4", "v/c.mp4", "motion_quality", "B"),
        ("v/a.mp4", "v/c.mp4", "text_alignment", "A"),
    ]
    assert set(read.comparisons["prompt"]) == {"a ball"}
    assert set(read.comparisons["judge"]) == set(read.comparisons["rationale"]) == {""}
    assert read.comparisons["pair_score"].isna().all()
    assert read.scores.empty


def test_benchmark_columns_and_others(root):
    header = ["path_A", "path_B", "A_model", "B_model", "prompt", "Overall", "split"]
    read = read_preferences(write_csv(root, ["v/a.mp4", "v/b.mp4", "x", "y", "p", "A", "test"],
                                      header=header))  # fmt: skip
    assert rows_of(read.clips, "id", "source") == [("v/a.mp4", "x"), ("v/b.mp4", "y")]
    assert rows_of(read.comparisons, "dimension", "verdict") == [("overall", "A")]


WINNERS = ["path_A", "path_B", "prompt", "winner"]


def test_a_column_that_names_the_winner(root):
    rows = [
        ["v/a.mp4", other, "a ball", winner]
        for other, winner in zip(
            ("v/b.mp4", "v/c.mp4", "v/d.mp4", "v/e.mp4", "v/f.mp4"),
            ("A", "B", "tie", "same", "invalid"),
            strict=True,
        )
    ]
    touch(root, "v/d.mp4", "v/e.mp4", "v/f.mp4")
    read = read_preferences(write_csv(root, *rows, header=WINNERS))
    assert rows_of(read.comparisons, "dimension", "verdict") == [
        ("overall", verdict) for verdict in ("A", "B", "tie", "tie", "invalid")
    ]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (WINNERS, ["v/a.mp4", "v/b.mp4", "p", "a"], "line 2: unknown label winner='a'; known: A,"),
        (WINNERS, ["v/a.mp4", "v/b.mp4", "p", ""], "line 2: unknown label winner=''"),
        (WINNERS, ["v/a.mp4", "v/b.mp4", "p", "v/a.mp4"], "line 2: unknown label winner='v/a.mp4'"),
        (
            [*WINNERS, "Overall"],
            ["v/a.mp4", "v/b.mp4", "p", "A", "A"],
            "Overall and winner are bot",
        ),
        (
            [*WINNERS[:3], "Winner"],
            ["v/a.mp4", "v/b.mp4", "p", "A"],
            "no column VQ or .* or winner",
        ),
        ([*WINNERS[:3], "VQ", "Winners"], [], r"column 'Winners' \(did you mean winner\?\)"),
    ],
)
def test_winners_that_are_none(root, header, row, message):
    with pytest.raises(ValueError, match=message):
        read_preferences(write_csv(root, row, header=header))


def test_paths_are_relative_to_the_file_and_not_to_where_the_program_runs(root, monkeypatch):
    path = write_csv(root, ["v/a.mp4", "v/b.mp4", "p", "A"], header=WINNERS)
    monkeypatch.chdir(root.parent)
    clips = read_preferences(path.relative_to(root.parent)).clips
    assert list(clips["path"]) == [str(root / "v/a.mp4"), str(root / "v/b.mp4")]


def test_paths_outside_the_folder_and_line_breaks(root):
    (root / "labels").mkdir()
    path = write_csv(
        root / "labels", row(a="../v/a.mp4", b=str(root / "v/b.mp4"), prompt=" one \r\n two\n")
    )
    clips = read_preferences(path).clips
    assert list(clips["id"]) == [str(root / "v/a.mp4"), str(root / "v/b.mp4")]
    assert set(clips["prompt"]) == {"one two"}


def test_repeated_rows_stay_and_may_be_swapped(root):
    rows = [row(labels="A,A,same"), row(labels="A,A,same"),
            row(a="v/b.mp4", b="v/a.mp4", labels="B,B,same", rest=",,,")]  # fmt: skip
    assert len(read_preferences(write_csv(root, *rows)).comparisons) == 9


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row(labels="A,b,A")], r"pairs.csv, line 3: unknown label MQ='b'; known: A, B"),
        ([row(labels="A,,A")], r"unknown label MQ=''"),
        ([row(prompt=" \n ")], r"pairs.csv, line 2: the prompt is empty"),
        ([row(a="")], r"line 2: the path of a clip is empty"),
        ([row(b="v/a.mp4", rest=",,,")], r"v/a.mp4 is compared with itself"),
        ([row(rest="fast,48,16,33")], r"line 2: fps_A='fast' is not a positive number"),
        ([row(rest="24,0,16,33")], r"num_frames_A='0' is not a positive number"),
        ([row()[:-1]], r"line 2: 9 fields, but the header has 10; an empty field"),
        ([[*row(), "more"]], r"line 2: 11 fields, but the header has 10; a text with a comma"),
        ([row(rest="inf,48,16,33")], r"line 2: fps_A='inf' is not a positive number"),
        ([row(), row(prompt="a cone")], r"line 3: clip v/a.mp4 has prompt 'a cone', but 'a ball'"),
        ([row(), row(rest="25,48,16.5,33")], r"line 3: clip v/a.mp4 has fps 25.0, but 24.0"),
        (
            [row(), row(a="v/b.mp4", b="v/a.mp4", rest=",,,")],
            r"line 3: v/b.mp4 is the verdict on v/a.mp4 and v/b.mp4 in visual_quality, but v/a.mp4 "
            r"in .*line 2",
        ),
        (
            [row(), row(a="v/x.mp4", b="v/y.mp4"), row(a="v/z.mp4", b="v/w.mp4")],
            r"4 of 6 clips do not exist, the first are .*v/x.mp4 \(.*line 3\); .*v/y.mp4.*v/z.mp4 ",
        ),
        ([], "no comparison and no score"),
    ],
)  # fmt: skip
def test_bad_rows(root, rows, message):
    with pytest.raises(ValueError, match=message):
        read_preferences(write_csv(root, *rows))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["path_A", *HEADER[2:]], "no column path_B; it has path_A, prompt"),
        (HEADER[:3], "no column VQ or MQ or TA or Overall"),
        ([*HEADER, "VQ"], "the column 'VQ' stands twice"),
        ([*HEADER[:3], "vq", *HEADER[4:]], r"unknown column 'vq' \(did you mean VQ\?\)"),
        ([*HEADER[:-1], "num_frame_B"], r"'num_frame_B' \(did you mean num_frames_B\?\)"),
    ],
)
def test_bad_columns(root, header, message):
    with pytest.raises(ValueError, match=message):
        read_preferences(write_csv(root, header=header))


def test_other_encoding(root):
    (root / "pairs.csv").write_bytes("path_A,caf\xe9".encode("latin-1"))
    with pytest.raises(ValueError, match=r"pairs.csv, line 1: not UTF-8"):
        read_preferences(root / "pairs.csv")


def test_public_example():
    if not EXAMPLE.is_file():
        pytest.skip(f"{EXAMPLE} is not here")
    read = read_preferences(EXAMPLE)
    assert rows_of(read.clips, "id", "fps", "frames") == [
        ("videos/example_1_A.mp4", 24.0, 126.0),
        ("videos/example_1_B.mp4", 30.0, 152.0),
        ("videos/example_3_A.mp4", 24.0, 128.0),
        ("videos/example_3_B.mp4", 16.0, 60.0),
    ]
    assert list(read.comparisons["verdict"]) == ["B", "B", "A", "A", "tie", "tie"]
    assert not any(math.isnan(fps) for fps in read.clips["fps"])
