"""Damaged lists of clips, labels and preferences: read whole, or refused by name. Seeded.

A damaged file gives a result or an error that names it; no other error, and never half of the file:
what has been read is as much as the undamaged file has, or what an independent count of the damaged
one finds.
"""

import csv
import io
import json

import numpy as np
import pytest

from vidpref.datasets.preferences import read_preferences
from vidpref.datasets.prompt_sets import read_prompt_set
from vidpref.datasets.prompts import load_prompts
from vidpref.datasets.something_something import load_ids, load_labels
from vidpref.datasets.video_folder import load_captions

CAPTIONS = """file,caption,split,category
a.mp4,a cat,train,x
b.mp4,"a dog sits, then jumps",test,x
sub/c.mp4,"the ""red"" ball",validation,y
d.mp4,née à 5 o'clock,train,
"""
VIDEOALIGN = """path_A,path_B,prompt,VQ,MQ,winner,fps_A
a.mp4,b.mp4,"a ball rolls, then stops",A,same,A,24
c.mp4,d.mp4,a cone,B,invalid,tie,8.5
a.mp4,e.mp4,"a ball rolls, then stops",B,B,B,24
f.mp4,g.mp4,"two
lines",A,A,A,
"""
PROMPTS = """category,split,number,prompt
OR,train,1,digging key out of sand
MO,test,02,"one, two and three"
DM,train,7,pushing it
"""
LINES = [
    {"prompt": "a ball", "clip_a": "a.mp4", "clip_b": "b.mp4", "verdict": "A"},
    {
        "prompt": "a cone, née",
        "clip_a": "c.mp4",
        "clip_b": "d.mp4",
        "verdict": {"motion": "B", "overall": "tie"},
        "scores_a": {"object_motion": 1.5},
        "judge": "me",
    },
    {"prompt": "a cup", "clip_a": "e.mp4", "scores_a": {"quality": 3}},
]
LABELS = [
    {"id": "78687", "label": "holding a cup", "template": "Holding [something]", "placeholders": 1},
    {"id": 42, "label": "née", "template": "[x]", "placeholders": ["a", None]},
    {"id": "7", "label": "pushing it", "template": "Pushing [it] left", "placeholders": []},
]
METADATA = [
    {"basic": {"clip_path": f"{n}.mp4", "score": 0.5}, "misc": {"frame_caption": ["a ball"]}}
    for n in "abcd"
]
PAIRS = [
    {"video1": i, "video2": 3 - i, "frame_caption": "a ball", "score": 0.25, "diff_score": 0.1}
    for i in range(2)
]
SUITE = [{"prompt_en": f"a {name}", "dimension": ["scene", "color"]} for name in ("bed", "cat")]


def read_captions(root):
    return len(load_captions(root))


def comparisons(root, name=""):
    read = read_preferences(root / name)
    return len(read.comparisons) + len(read.scores)


# name: (files, the one that is damaged, reader -> number of things read, that of the good file)
LISTS = {
    "captions": ({"captions.csv": CAPTIONS}, "captions.csv", read_captions, 4),
    "prompts": ({"set.csv": PROMPTS}, "set.csv", lambda r: len(load_prompts(r / "set.csv")), 3),
    "prompt_suite": (
        {"full_info.json": json.dumps(SUITE)},
        "full_info.json",
        lambda root: len(read_prompt_set(root / "full_info.json").prompts),
        2,
    ),
    "videoalign": (
        {"pairs.csv": VIDEOALIGN},
        "pairs.csv",
        lambda root: comparisons(root, "pairs.csv"),
        12,
    ),
    "json_lines": (
        {"pairs.jsonl": "\n".join(map(json.dumps, LINES)) + "\n"},
        "pairs.jsonl",
        lambda root: comparisons(root, "pairs.jsonl"),
        5,
    ),
    "json_list": (
        {"pairs.json": json.dumps(LINES, indent=1, ensure_ascii=False)},
        "pairs.json",
        lambda root: comparisons(root, "pairs.json"),
        5,
    ),
    "videodpo_pairs": (
        {"metadata.json": json.dumps(METADATA), "pair.json": json.dumps(PAIRS)},
        "pair.json",
        comparisons,
        6,
    ),
    "videodpo_metadata": (
        {"metadata.json": json.dumps(METADATA), "pair.json": json.dumps(PAIRS)},
        "metadata.json",
        comparisons,
        6,
    ),
    "realdpo_videos": (
        {"video.txt": "a.mp4\nb.mp4\n", "prompt.txt": "a ball\na cone\n"},
        "video.txt",
        comparisons,
        3,
    ),
    "realdpo_prompts": (
        {"video.txt": "a.mp4\nb.mp4\n", "prompt.txt": "a ball\na cone\n"},
        "prompt.txt",
        comparisons,
        3,
    ),
    "labels": (
        {"train.json": json.dumps(LABELS)},
        "train.json",
        lambda root: len(load_labels(root / "train.json")),
        3,
    ),
    "ids": (
        {"test.json": json.dumps([{"id": "1"}, {"id": 2}])},
        "test.json",
        lambda root: len(load_ids(root / "test.json")),
        2,
    ),
}
PIECES = [
    *(b",", b'"', b"\n", b"\r", b"\r\n", b";", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b" ", b"\\"),
    *(b"{", b"}", b"[", b"]", b":", b"null", b"true", b"NaN", b"1e999", b"-1", b"\\ud800", b'""'),
    *(b'"id":', b'"prompt":', b"\xc3\xa9", b"../", b"/", b"x" * 300, b"9" * 5000, b"[" * 2000),
]


def damaged(data, rng):
    """A cut, a repeated or a lost part, a changed byte, a piece put in; or two of these."""
    for _ in range(rng.integers(1, 3)):
        start, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        match rng.integers(6):
            case 0:
                data = data[:start]
            case 1:
                data = data[:start] + data[min(start + int(rng.integers(1, 9)), end) :]
            case 2:
                data = data[:start] + PIECES[rng.integers(len(PIECES))] + data[start:]
            case 3:
                data = data[:end] + data[start:]
            case 4:
                data = data[:start] + bytes([rng.integers(256)]) + data[start + 1 :]
            case _:
                lines = data.split(b"\n")
                i = rng.integers(len(lines))
                data = b"\n".join([*lines[:i], *lines[i:][: rng.integers(1, 4)], *lines[i:]])
    return data


def write(root, files):
    (root / "videos").mkdir()
    for folder in (root / "negative_samples" / name for name in "ab"):
        folder.mkdir(parents=True)
        (folder / "0.mp4").touch()
    (root / "negative_samples" / "a" / "1.mp4").touch()
    for name in "abcdefg":
        (root / f"{name}.mp4").touch()
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")


def counted(name, data):
    """Rows or entries of a damaged file, by Python's own readers; None where that is no count."""
    text = data.decode("utf-8-sig")
    if name.endswith(".csv"):
        rows = csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n")))
        return sum(1 for row in rows if row) - 1
    if name.endswith(".jsonl"):
        return None
    if name.endswith(".json"):
        return len(json.loads(text))
    return None


def fuzz(root, kind, seeds):
    """Reads the file as often as there are seeds; how many were read and how many refused."""
    files, name, read, whole = LISTS[kind]
    write(root, files)
    assert read(root) == whole
    good = (root / name).read_bytes()
    outcome = {"read": 0, "refused": 0}
    for seed in seeds:
        data = damaged(good, np.random.default_rng([seed, len(good)]))
        (root / name).write_bytes(data)
        try:
            found = read(root)
        except (ValueError, FileNotFoundError) as error:
            outcome["refused"] += 1
            text = str(error)
            assert str(root) in text, (seed, data, text)
            continue
        outcome["read"] += 1
        if kind in ("captions", "prompts", "labels"):  # what they read is rows
            assert found == counted(name, data), (seed, data)
        if kind == "ids":
            assert found == len({str(entry["id"]) for entry in json.loads(data)}), (seed, data)
    return outcome


@pytest.mark.parametrize("kind", LISTS)
def test_damaged_lists_are_read_or_refused_by_name(tmp_path, kind):
    outcome = fuzz(tmp_path, kind, range(150))
    assert outcome["refused"] > 15, outcome
    assert outcome["read"] > 0, outcome


@pytest.mark.slow
@pytest.mark.parametrize("kind", LISTS)
def test_many_damaged_lists_are_read_or_refused_by_name(tmp_path, kind):
    fuzz(tmp_path, kind, range(1000, 5000))
