"""Which clips are compared with which, and those that are left over."""

import pandas as pd
import pytest

from vidpref.annotation.pairing import ALONE, pairs, singles
from vidpref.annotation.task import clip_path
from vidpref.datasets.bad_clips import BadClips


def clips(tmp_path, *rows):
    frame = pd.DataFrame(rows, columns=["source", "draw", "prompt"])
    path = [str(tmp_path / source / f"{draw}.mp4") for source, draw, _ in rows]
    return frame.assign(path=path)


def test_sources_are_paired_by_draw_and_prompt(tmp_path):
    skipped = BadClips()
    table = clips(
        tmp_path,
        *(("old", "0", "a"), ("old", "1", "a"), ("old", "2", "b"), ("old", "3", "c")),
        *(("new", "0", "a"), ("new", "1", "a"), ("new", "2", "other"), ("own", "0", "a")),
    )
    found = pairs(table, tmp_path, skipped)
    assert [item.clips for item in found] == [
        ("old/0.mp4", "new/0.mp4"),
        ("old/0.mp4", "own/0.mp4"),
        ("new/0.mp4", "own/0.mp4"),
        ("old/1.mp4", "new/1.mp4"),
    ]
    assert found[0].sources == ("old", "new")
    assert skipped.counts() == {ALONE: 3}
    assert "no other source has 2 of the prompt 'b'" in skipped.table()


def test_clips_of_one_source_are_paired_within_a_prompt(tmp_path):
    skipped = BadClips()
    rows = [("old", "0", "a"), ("old", "1", "b"), ("old", "2", "a"), ("old", "3", "a")]
    found = pairs(clips(tmp_path, *rows), tmp_path, skipped)
    assert [item.clips for item in found] == [
        ("old/0.mp4", "old/2.mp4"),
        ("old/0.mp4", "old/3.mp4"),
        ("old/2.mp4", "old/3.mp4"),
    ]
    assert "the only clip of the prompt 'b'" in skipped.table()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("old", "0", "a"), ("new", "1", "a")], "old, new have no clip of the same name and"),
        ([("old", "0", "a"), ("old", "1", "b")], "give two sources, or --grade"),
    ],
)
def test_without_a_pair_it_says_why(tmp_path, rows, message):
    with pytest.raises(ValueError, match=f"(?i)none of the 2 clips can be paired.*{message}"):
        pairs(clips(tmp_path, *rows), tmp_path, BadClips())


def test_names_are_those_of_the_records_reader(tmp_path):
    (item,) = singles(clips(tmp_path, ("old", "0", "a")), tmp_path / "old")
    assert item.clips == ("0.mp4",)
    (item,) = singles(clips(tmp_path, ("old", "0", "a")), tmp_path / "elsewhere")
    assert item.clips == (str(tmp_path / "old" / "0.mp4"),)
    for folder in (tmp_path / "old", tmp_path / "elsewhere"):
        (item,) = singles(clips(tmp_path, ("old", "0", "a")), folder)
        assert clip_path(item.clips[0], folder) == tmp_path / "old" / "0.mp4"
