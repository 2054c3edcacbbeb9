import json

import pytest
from preference_files import rows_of, touch, write_videodpo

from vidpref.datasets.preferences import read_preferences

WIN, LOSE = "winvideos/000000.mp4", "losevideos/000000.mp4"


def clip(path, prompt="a ball", **basic):
    return {
        "basic": {"clip_duration": 1.6, "clip_path": path, "globalidx": 0, **basic},
        "misc": {"frame_caption": [prompt]},
    }


def pair(winner=0, loser=1, prompt="a ball", **more):
    return {"video1": winner, "video2": loser, "label": 0, "frame_caption": prompt, **more}


@pytest.fixture
def root(tmp_path):
    touch(tmp_path, WIN, LOSE)
    return tmp_path


def test_scores_and_weights_survive(root):
    metadata = [clip(LOSE, score=0.5), clip(WIN, score=0.75)]
    read = read_preferences(
        write_videodpo(root, metadata, [pair(1, 0, score=0.375, diff_score=0.25)])
    )
    assert rows_of(read.clips, "id", "path", "prompt") == [
        (LOSE, str(root / LOSE), "a ball"),
        (WIN, str(root / WIN), "a ball"),
    ]
    columns = ("clip_a", "clip_b", "dimension", "verdict", "judge", "pair_score", "score_gap")
    assert rows_of(read.comparisons, *columns) == [
        (WIN, LOSE, "omniscore", "A", "OmniScore", 0.375, 0.25)
    ]
    assert rows_of(read.scores, "clip", "dimension", "score", "judge") == [
        (LOSE, "omniscore", 0.5, "OmniScore"),
        (WIN, "omniscore", 0.75, "OmniScore"),
    ]


def test_without_scores_and_whatever_the_label(root):
    write_videodpo(root, [clip(WIN), clip(LOSE)], [pair(label=1)])
    read = read_preferences(root)
    assert rows_of(read.comparisons, "clip_a", "verdict") == [(WIN, "A")]
    assert read.comparisons[["pair_score", "score_gap"]].isna().all(axis=None)
    assert read.scores.empty


def test_another_file_of_pairs(root):
    write_videodpo(root, [clip(WIN), clip(LOSE)], [])
    other = root / "pair_score_25P.json"
    other.write_text(json.dumps([pair(score=0.5)]))
    read = read_preferences(other, layout="videodpo")
    assert list(read.comparisons["pair_score"]) == [0.5]


def test_a_list_of_pairs_is_told_from_a_list_of_ones_own(root):
    write_videodpo(root, [clip(WIN), clip(LOSE)], [])
    other = root / "pair_25P.json"
    other.write_text(json.dumps([pair(score=0.5)], indent=2))
    assert list(read_preferences(other).comparisons["pair_score"]) == [0.5]


CLIPS = [clip(WIN), clip(LOSE)]


@pytest.mark.parametrize(
    ("metadata", "pairs", "message"),
    [
        ([{"basic": {}}, clip(LOSE)], [], "metadata.json, entry 0: clip_path must be a str"),
        ([{"misc": {}}], [], "metadata.json, entry 0: basic must be a dict, it is 'missing'"),
        ([clip(WIN), clip(WIN, score="high")], [], "entry 1: score='high' is not a finite number"),
        ([clip(WIN, score=1), clip(WIN, score=2)], [], "entry 1: .* has the score 2 in omniscore"),
        ({"a": 1}, [], "metadata.json: not a list of objects"),
        (CLIPS, [pair(), pair(0, 2)], "pair.json, entry 1: video2=2 is no position among 2 clips"),
        (CLIPS, [pair(-1, 0)], "entry 0: video1=-1 is no position"),
        (CLIPS, [pair(True, 0)], "entry 0: video1 must be a int, it is True"),
        (CLIPS, [pair(diff_score=10**400)], "entry 0: diff_score=1000+ is not a finite number"),
        (CLIPS, [{"video1": 0}], "entry 0: video2 must be a int, it is 'missing'"),
        (CLIPS, [pair(prompt="a cone")], "pair.json, entry 0: clip .* has prompt 'a cone'"),
        (CLIPS, [pair(prompt=[])], "entry 0: frame_caption must be a str"),
        (CLIPS, [pair(score=None)], "entry 0: score=None is not a finite number"),
        (CLIPS, [pair(), pair(1, 0)], "entry 1: .* is the verdict on"),
        (CLIPS, [], "pair.json: no comparison and no score"),
        ([clip(WIN), clip("gone.mp4")], [pair()], r"1 of 2 clips do not exist.*gone.mp4 \(.*try 1"),
    ],
)
def test_bad_entries(root, metadata, pairs, message):
    with pytest.raises(ValueError, match=message):
        read_preferences(write_videodpo(root, metadata, pairs))


def test_broken_and_missing_files(root):
    write_videodpo(root, CLIPS, [pair()])
    (root / "pair.json").write_text('[\n{"video1": 0,}\n]')
    with pytest.raises(ValueError, match=r"pair.json, line 2: not JSON"):
        read_preferences(root)
    (root / "pair.json").write_text('[{"video1": 0, "video2": 1,\n"video1": 1}]')
    with pytest.raises(ValueError, match=r"pair.json, line 2: the key 'video1' stands twice"):
        read_preferences(root)
    (root / "metadata.json").unlink()
    with pytest.raises(ValueError, match=r"metadata.json: no such file"):
        read_preferences(root)
