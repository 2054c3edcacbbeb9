import json

import pandas as pd
import pytest
from preference_files import rows_of, touch, write_json_lines

from vidpref.datasets.preferences import read_preferences


@pytest.fixture
def root(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    return tmp_path


def record(**fields):
    known = {"prompt": "a ball", "clip_a": "a.mp4", "clip_b": "b.mp4", "verdict": "A", **fields}
    return {name: value for name, value in known.items() if value is not None}


def test_every_field(root):
    path = write_json_lines(
        root,
        record(
            verdict={"visual_quality": "B", "motion": "invalid"},
            scores_a={"object_motion": 3, "camera_motion": 1.5},
            scores_b={"object_motion": -2},
            score_gap={"visual_quality": -0.5},
            judge="me",
            rationale="it jumps",
        ),
        record(verdict="tie"),
    )
    path.write_text(path.read_text() + "\n")
    read = read_preferences(path)
    assert rows_of(read.comparisons, "dimension", "verdict", "judge", "rationale") == [
        ("visual_quality", "B", "me", "it jumps"),
        ("motion", "invalid", "me", "it jumps"),
        ("overall", "tie", "", ""),
    ]
    gaps = read.comparisons["score_gap"]
    assert gaps[0] == -0.5
    assert gaps[1:].isna().all()
    assert rows_of(read.scores, "clip", "dimension", "score", "judge", "rationale") == [
        ("a.mp4", "object_motion", 3.0, "me", "it jumps"),
        ("a.mp4", "camera_motion", 1.5, "me", "it jumps"),
        ("b.mp4", "object_motion", -2.0, "me", "it jumps"),
    ]


def test_one_scored_clip_a_line(root):
    lines = [
        record(clip_a=name, clip_b=None, verdict=None, scores_a={"quality": value})
        for name, value in (("a.mp4", 1.0), ("b.mp4", -1.0))
    ]
    read = read_preferences(write_json_lines(root, *lines))
    assert rows_of(read.scores, "clip", "score") == [("a.mp4", 1.0), ("b.mp4", -1.0)]
    assert read.comparisons.empty


def test_two_judges_may_disagree(root):
    path = write_json_lines(root, record(judge="x"), record(judge="y", verdict="B"))
    assert list(read_preferences(path).comparisons["verdict"]) == ["A", "B"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"verdict": "a"}, r"line 2: unknown verdict 'a' in overall; known: A, B, tie, invalid"),
        ({"verdict": {"motion": 1}}, r"unknown verdict '1' in motion"),
        ({"verdict": ["A"]}, r"line 2: verdict=\['A'\] has the wrong type"),
        ({"verdict": None}, r"line 2: no verdict"),
        ({"clip_b": None}, r"line 2: no clip_b"),
        ({"prompt": None}, r"line 2: no prompt"),
        ({"clip_b": None, "verdict": None}, r"line 2: no scores_a"),
        ({"clipa": "a.mp4"}, r"line 2: unknown field 'clipa' \(did you mean clip_a\?\)"),
        ({"scores_a": {"motion": "3"}}, r"scores_a.motion='3' is not a finite number"),
        ({"scores_a": {"motion": True}}, r"scores_a.motion=True is not"),
        ({"scores_a": {"motion": 10**400}}, r"scores_a.motion=1000+ is not"),
        ({"score_gap": {"overall": "1"}}, r"score_gap.overall='1' is not a finite number"),
        ({"score_gap": {"motion": 1}}, r"line 2: score_gap.motion has no verdict beside it"),
        ({"scores_a": {"": 1}}, r"line 2: a dimension has no name"),
        ({"verdict": {" ": "A"}}, r"line 2: a dimension has no name"),
        ({"scores_b": {"motion": float("nan")}}, r"line 2: NaN is not a finite number"),
        ({"scores_a": {"overall": 2}}, r"line 2: a.mp4 has the score 2 in overall, but 1 before"),
        ({"verdict": "B"}, r"line 2: b.mp4 is the verdict .* but a.mp4 in .*line 1"),
        ({"clip_b": "c.mp4"}, r"1 of 3 clips do not exist.*c.mp4 \(.*line 2\)"),
    ],
)
def test_bad_lines(root, fields, message):
    path = write_json_lines(root, record(scores_a={"overall": 1}), record(**fields))
    with pytest.raises(ValueError, match=message):
        read_preferences(path)


def test_bad_json(root):
    path = write_json_lines(root, record())
    good = path.read_text()
    path.write_text(good + '{"prompt": }\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl, line 2: not JSON: .* \(column 12\)"):
        read_preferences(path)
    path.write_text(good + "[1]\n")
    with pytest.raises(ValueError, match=r"line 2: not an object but \[1\]"):
        read_preferences(path)


@pytest.mark.parametrize(
    ("again", "key"),
    [
        ('"verdict": "B"', "verdict"),
        ('"clip_a": "b.mp4"', "clip_a"),
        ('"scores_a": {"x": 1, "x": 2}', "x"),
    ],
)
def test_a_key_that_stands_twice(root, again, key):
    path = write_json_lines(root, record(), record(prompt=None))
    path.write_text(path.read_text().rstrip().removesuffix("}") + f', "prompt": "p", {again}}}\n')
    with pytest.raises(ValueError, match=f"pairs.jsonl, line 2: the key '{key}' stands twice"):
        read_preferences(path)


@pytest.mark.parametrize("name", ["pairs.ndjson", "pairs.NDJSON", "pairs.json"])
def test_other_names_of_the_same_records(root, name):
    records = [record(verdict={"motion": "B"}, judge="me"), record(verdict="tie")]
    lines = write_json_lines(root, *records)
    path = root / name
    path.write_text(
        json.dumps(records, indent=1) if name.endswith(".json") else lines.read_text() + "\n"
    )
    for layout in ("auto", "json_lines"):
        read, same = read_preferences(path, layout), read_preferences(lines)
        for frame in ("clips", "comparisons", "scores"):
            pd.testing.assert_frame_equal(getattr(read, frame), getattr(same, frame))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"pairs": []}', r"pairs.json: not a list of objects but a dict"),
        ("[7]", r"pairs.json, entry 0: not an object but 7"),
        ('[{"prompt": "p", "clip_a": "a.mp4"}]', r"pairs.json, entry 0: no scores_a"),
        (
            '[\n{"prompt": "p",\n"prompt": "q"}]',
            r"pairs.json, line 3: the key 'prompt' stands twice",
        ),
        ('{"a": 1}\n{"a": 2}', r"pairs.json, line 2: not JSON: Extra data"),
        ("[]", r"pairs.json: no comparison and no score"),
    ],
)
def test_bad_lists(root, text, message):
    (root / "pairs.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_preferences(root / "pairs.json")


def test_unknown_layouts(root):
    with pytest.raises(ValueError, match="layout='csv' is unknown; known: auto, videoalign"):
        read_preferences(root, layout="csv")
    with pytest.raises(ValueError, match="gone: no such file or folder"):
        read_preferences(root / "gone")
    for path in (root, root / "a.mp4"):
        with pytest.raises(ValueError, match=r"cannot tell its layout.*realdpo: a folder with vid"):
            read_preferences(path)
