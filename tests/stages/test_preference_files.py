"""A file of preferences as the data of a run: what its digest sees, whatever the list is called."""

import json

import pytest

from vidpref.config.fields import build as section
from vidpref.config.schema import Data
from vidpref.stages.preferences import files_digest, read

PROMPT = "a ball rolls"


def write(root, name, verdict="A"):
    for clip in "ab":
        (root / f"{clip}.mp4").write_bytes(b"x")
    if name == "pairs.csv":
        text = f"path_A,path_B,prompt,winner\na.mp4,b.mp4,{PROMPT},{verdict}\n"
    else:
        record = {"prompt": PROMPT, "clip_a": "a.mp4", "clip_b": "b.mp4", "verdict": verdict}
        text = json.dumps([record] if name == "pairs.json" else record)
    (root / name).write_text(text)
    return section(Data(pairs=str(root / name)))


def write_videodpo(root, score=0.5):
    basic = [{"clip_path": f"{clip}.mp4", "score": score} for clip in "ab"]
    for clip in "ab":
        (root / f"{clip}.mp4").write_bytes(b"x")
    entries = [{"basic": b, "misc": {"frame_caption": PROMPT}} for b in basic]
    (root / "metadata.json").write_text(json.dumps(entries))
    pair = {"video1": 0, "video2": 1, "frame_caption": PROMPT}
    for name in ("pair.json", "pair_25P.json"):
        (root / name).write_text(json.dumps([pair]))


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl", "pairs.ndjson", "pairs.json"])
def test_another_verdict_is_another_digest(tmp_path, name):
    before = files_digest(write(tmp_path, name))
    assert files_digest(write(tmp_path, name)) == before
    assert files_digest(write(tmp_path, name, "B")) != before


@pytest.mark.parametrize("name", [".", "pair_25P.json"])
def test_another_score_in_the_list_of_clips_is_another_digest(tmp_path, name):
    data = section(Data(pairs=str(tmp_path / name)))
    write_videodpo(tmp_path)
    before = files_digest(data)
    write_videodpo(tmp_path, 0.75)
    assert files_digest(data) != before


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl", "pairs.ndjson", "pairs.json"])
def test_reading_says_how_many_pairs_there_are(tmp_path, caplog, name):
    data = write(tmp_path, name)
    data.held_out = 0.0
    with caplog.at_level("INFO"):
        read(tmp_path, data)
    assert "preferences: 1 pairs of 2 clips: 1 of train prompts; held out 0 of" in caplog.text
    assert (tmp_path / "comparisons.parquet").is_file()
