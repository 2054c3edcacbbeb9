import csv
import json

import pandas as pd
import pytest

from vidpref.datasets.benchmarks import LAYOUTS, read_benchmark

VGRB = [
    *("path_A", "path_B", "A_model", "B_model", "prompt", "VQ", "MQ", "TA", "Overall"),
    *("fps_A", "num_frames_A", "fps_B", "num_frames_B"),
]


def write_csv(path, header, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def votes(benchmark, *columns):
    columns = columns or ("clip_a", "clip_b", "prompt", "dimension", "verdict")
    return list(benchmark.preferences.comparisons[list(columns)].itertuples(index=False, name=None))


def rewardbench(tmp_path, *labels, rest="24,100,8,49"):
    rows = [
        [f"videos/{i}.mp4", "videos/b.mp4", "Wan", "Kling", "a cat, asleep", *row.split(",")]
        for i, row in enumerate(labels)
    ]
    return write_csv(tmp_path / "pairs.csv", VGRB, *(row + rest.split(",") for row in rows))


def test_videogen_rewardbench(tmp_path):
    read = read_benchmark(rewardbench(tmp_path, "A,same,B,A"))
    assert read.layout == "videogen_rewardbench"
    assert votes(read, "dimension", "verdict") == [
        ("visual_quality", "A"),
        ("motion_quality", "tie"),
        ("text_alignment", "B"),
        ("overall", "A"),
    ]
    first = read.preferences.clips.iloc[0]
    assert first["path"] == str(tmp_path / "videos" / "0.mp4")
    assert (first["source"], first["fps"], first["frames"]) == ("Wan", 24.0, 100.0)
    assert len(read.skipped) == 0


def test_missing_and_unknown_labels_are_named_and_stay_as_invalid(tmp_path):
    read = read_benchmark(rewardbench(tmp_path, "A,,B,A", "C,A,A,B"))
    assert read.skipped.counts() == {"no label": 1, "unknown label": 1}
    assert read.skipped.rows[0][0] == f"{tmp_path}/pairs.csv, line 2, MQ"
    assert read.skipped.rows[1] == (
        f"{tmp_path}/pairs.csv, line 3, VQ",
        "unknown label",
        "'C'; known: A, B, same, tie, invalid",
    )
    assert votes(read, "clip_a", "dimension", "verdict")[1] == (
        "videos/0.mp4",
        "motion_quality",
        "invalid",
    )
    assert len(read.preferences.comparisons) == 8


def test_malformed_rows_are_left_out_by_name(tmp_path):
    path = write_csv(
        tmp_path / "pairs.csv",
        ["path_A", "path_B", "prompt", "Overall", "fps_A"],
        ["a.mp4", "b.mp4", "a cat", "A", "8"],
        ["a.mp4", "c.mp4", "", "A", "8"],
        ["", "c.mp4", "a cat", "A", "8"],
        ["c.mp4", "c.mp4", "a cat", "A", "8"],
        ["a.mp4", "d.mp4", "a dog", "A", "8"],
        ["e.mp4", "d.mp4", "a dog", "A", "fast"],
        ["b.mp4", "a.mp4", "a cat", "A", ""],
    )
    read = read_benchmark(path)
    assert [(row[0].rpartition(" ")[2], row[2]) for row in read.skipped.rows] == [
        ("3", "the prompt is empty"),
        ("4", "the path of a clip is empty"),
        ("5", "c.mp4 is compared with itself"),
        (
            "6",
            "clip a.mp4 has prompt 'a dog', but 'a cat' before (first named in "
            f"{path}, line 2); a clip has one",
        ),
        ("7", "fps_A='fast' is not a positive number"),
    ]
    # two people may disagree about a pair
    assert votes(read, "clip_a", "verdict", "judge") == [
        ("a.mp4", "A", "row 0"),
        ("b.mp4", "A", "row 6"),
    ]


ARENA = [
    ("leftvote", "A"),
    ("rightvote", "B"),
    ("tievote", "tie"),
    ("bothbad_vote", "tie"),
    ("A>B", "A"),
    ("A=B=Bad", "tie"),
]


def arena(vote, left="l.mp4", **more):
    return {
        "prompt": "a cat",
        "left_model": "x",
        "left_video": left,
        "right_model": "y",
        "right_video": f"{vote}.mp4",
        "vote_type": vote,
    } | more


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_genai_bench(tmp_path, suffix):
    rows = [arena(vote) for vote, _ in ARENA]
    path = tmp_path / f"test_v1.{suffix}"
    if suffix == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif suffix == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    read = read_benchmark(path)
    assert [verdict for _, verdict in votes(read, "dimension", "verdict")] == [v for _, v in ARENA]
    assert read.left_out == {"both bad, counted as tie": 2}
    dropped = read_benchmark(path, "genai_bench", both_bad="drop")
    assert len(dropped.preferences.comparisons) == 4
    assert dropped.left_out == {"both bad, counted as drop": 2}
    assert set(read.preferences.clips["source"]) == {"x", "y"}


def test_files_of_hugging_faces_tables(tmp_path):
    rows = [arena("leftvote", {"bytes": None, "path": "v/l.mp4"})]
    pd.DataFrame(rows).to_parquet(tmp_path / "test.parquet")
    assert votes(read_benchmark(tmp_path / "test.parquet"), "clip_a") == [("v/l.mp4",)]


def test_addresses_are_found_below_the_folder(tmp_path):
    (tmp_path / "clips" / "sora").mkdir(parents=True)
    (tmp_path / "clips" / "sora" / "l.mp4").touch()
    left = "https://host.example/x/resolve/main/sora/l.mp4?download=true"
    path = tmp_path / "votes.json"
    path.write_text(json.dumps([arena("leftvote", left)]))
    read = read_benchmark(path, root=tmp_path / "clips")
    assert votes(read, "clip_a") == [("sora/l.mp4",)]
    other = read_benchmark(path, root=tmp_path)
    assert votes(other, "clip_a") == [("x/resolve/main/sora/l.mp4",)]


def test_unified_rewards_copy(tmp_path):
    row = {"id": 3, "prompt": "p", "video_left": "a.mp4", "video_right": "b.mp4"}
    (tmp_path / "data.json").write_text(json.dumps([row | {"vote_type": "rightvote"}]))
    read = read_benchmark(tmp_path / "data.json")
    assert (read.layout, *votes(read)) == (
        "unified_reward",
        ("a.mp4", "b.mp4", "p", "overall", "B"),
    )


def test_mj_bench_video(tmp_path):
    row = {
        "caption": "p",
        "video_0_path": "0.mp4",
        "video_1_path": "1.mp4",
        "category_preference": {"Alignment": "Same", "Coherence & Consistency": "Video 1 better"},
        "overall_preference": "Video 2 better",
        "discard": False,
    }
    (tmp_path / "test.json").write_text(json.dumps([row, row | {"discard": True}, "x"]))
    read = read_benchmark(tmp_path / "test.json")
    assert read.layout == "mj_bench_video"
    assert votes(read, "clip_a", "dimension", "verdict") == [
        ("0.mp4", "overall", "B"),
        ("0.mp4", "alignment", "tie"),
        ("0.mp4", "coherence_consistency", "A"),
    ]
    assert read.left_out == {"discarded by the benchmark": 1}
    assert read.skipped.counts() == {"malformed row": 1}


def test_vision_reward_db(tmp_path):
    row = {"prompt": "p", "video1_path": "1.mp4"}
    rows = [
        row | {"video2_path": f"{name}.mp4", "standard_answer": name}
        for name in ("video1", "video2", "tie")
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = read_benchmark(tmp_path / "test.jsonl")
    assert read.layout == "vision_reward_db"
    assert [verdict for (verdict,) in votes(read, "verdict")] == ["A", "B", "tie"]


def test_our_own_layouts_are_read_strictly(tmp_path):
    (tmp_path / "a.mp4").touch()
    row = {"prompt": "p", "clip_a": "a.mp4", "clip_b": "b.mp4", "verdict": "A"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="1 of 2 clips do not exist"):
        read_benchmark(tmp_path / "mine.jsonl")
    (tmp_path / "b.mp4").touch()
    assert votes(read_benchmark(tmp_path / "mine.jsonl"))[0][-1] == "A"


@pytest.mark.parametrize(
    ("name", "text", "layout", "message"),
    [
        ("x.csv", "path_A,path_B,prompt,Overall\n", "auto", "no row in it"),
        ("x.csv", "path_A,path_B,prompt\na,b,c\n", "auto", "no VQ or MQ or TA or Overall or win"),
        ("x.csv", "left,right\na,b\n", "genai_bench", "no left_video, right_video, prompt, vote"),
        ("x.csv", "path_A,path_B,prompt,VQ\na,b,,A\n", "auto", "none of its 1 rows can be used"),
        ("x.json", "{}", "mj_bench_video", "not a list of objects but a dict"),
        ("x.txt", "", "genai_bench", "wanted a file that ends in one of .csv"),
        ("x.parquet", "", "auto", "no Parquet file that can be read"),
        ("x.csv", "path_A\n", "genai", r"no layout 'genai'; did you mean genai_bench\?"),
        ("x.csv", 'a,b\n"1,2\n', "auto", "line 2: a quote is opened and never closed"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, text, layout, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_benchmark(tmp_path / name, layout)


def test_a_missing_file_and_another_use_of_both_bad(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_benchmark(tmp_path / "nowhere.csv", "genai_bench")
    with pytest.raises(ValueError, match="both_bad='lose': known are tie, drop"):
        read_benchmark(tmp_path / "x.csv", both_bad="lose")


def test_layouts_are_told_apart_by_their_fields():
    pairs = [layout.paths for layout in LAYOUTS.values()]
    assert len({name for paths in pairs for name in paths}) == 2 * len(pairs)
