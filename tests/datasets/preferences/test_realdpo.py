import pytest
from preference_files import rows_of, touch, write_realdpo

from vidpref.datasets.preferences import read_preferences


def test_a_real_clip_beats_each_of_its_negatives(tmp_path):
    root = write_realdpo(
        tmp_path,
        ["videos/7.mp4", "videos/8.mov"],
        ["a person eats", "a person runs"],
        ["7/0", "7/1", "7/2", "7/10", "8/0"],
    )
    touch(root, "negative_samples/7/notes.mp4", "negative_samples/7/3.png")
    read = read_preferences(root)
    assert rows_of(read.comparisons, "clip_a", "clip_b", "prompt", "dimension", "verdict") == [
        ("videos/7.mp4", f"negative_samples/7/{i}.mp4", "a person eats", "real", "A")
        for i in (0, 1, 2, 10)
    ] + [("videos/8.mov", "negative_samples/8/0.mp4", "a person runs", "real", "A")]
    assert list(read.clips["source"]) == ["real", "", "", "", "", "real", ""]
    assert list(read.clips["path"]) == [str(root / name) for name in read.clips["id"]]


@pytest.mark.parametrize(
    ("videos", "prompts", "negatives", "message"),
    [
        (["a.mp4"], ["one", "two"], ["a/0"], "video.txt has 1 lines, prompt.txt 2"),
        (["a.mp4", "b.mp4"], ["one", "two"], ["a/0"], r"video.txt, line 2: no folder .*samples/b"),
        (["a.mp4"], ["one"], ["a/x"], r"video.txt, line 1: .*samples/a has no negatives 0.mp4"),
        (["a.mp4", "b.mp4"], ["one", "", "two"], ["a/0", "b/0"], r"prompt.txt, line 2: empty"),
        (["a.mp4", "v/a.mp4"], ["one", "two"], ["a/0"], r"line 2: a clip named a stands in line 1"),
    ],
)
def test_bad_folders(tmp_path, videos, prompts, negatives, message):
    with pytest.raises(ValueError, match=message):
        read_preferences(write_realdpo(tmp_path, videos, prompts, negatives))


def test_missing_files(tmp_path):
    root = write_realdpo(tmp_path, ["a.mp4"], ["one"], ["a/0"])
    (root / "a.mp4").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 clips do not exist.*a.mp4 \(.*video.txt, line 1"):
        read_preferences(root)
    (root / "prompt.txt").unlink()
    with pytest.raises(ValueError, match=r"prompt.txt: no such file"):
        read_preferences(root)
