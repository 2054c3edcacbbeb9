"""Stored clips are found by what they are of, with the verdict that stands beside their id."""

import dataclasses
import os

import numpy as np
import pytest

from tests.runs.stored_runs import PROMPTS, accepted, frames, write_clips
from vidpref.runs.run_folder import RunRecord, write_record
from vidpref.runs.stored_clips import Wanted, choose, clip_sets, describe, overview, read_rows

ALL = Wanted("evaluation")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    write_clips(folder, "pretrained")
    write_clips(folder, "dpo")
    return folder


def test_what_there_is(workdir):
    table = overview(clip_sets(workdir))
    assert [tuple(row) for row in table.rows] == [
        ("evaluation", "pretrained", "test", 2, 2, 1),
        ("evaluation", "pretrained", "train", 1, 1, 0),
        ("evaluation", "dpo", "test", 2, 2, 2),
        ("evaluation", "dpo", "train", 1, 1, 1),
    ]


@pytest.mark.parametrize(
    ("fields", "matching"),
    [
        ({}, 6),
        ({"policy": "dpo"}, 3),
        ({"split": "train"}, 2),
        ({"prompt": "RED"}, 4),
        ({"accepted": True}, 4),
        ({"accepted": False}, 2),
        ({"policy": "pretrained", "prompt": "cone", "accepted": True}, 1),
    ],
)
def test_flags_choose_clips(workdir, fields, matching):
    sets = clip_sets(workdir)
    chosen = choose(sets, dataclasses.replace(ALL, **fields))
    assert len(chosen) == matching
    rows = read_rows(sets, chosen, "evaluation")
    assert sum(len(row.clips) for row in rows) == matching
    for row in rows:
        number = list(PROMPTS).index(row.prompt)
        assert row.name == f"scene-{number}-0"
        for policy, clip in row.clips.items():
            np.testing.assert_array_equal(clip, frames(policy, number))
            assert row.accepted[policy] == accepted(policy, number)
            assert row.reasons[policy] == ("well" if row.accepted[policy] else "path: it rests")


def test_clips_of_one_noise_stand_together_in_the_order_of_drawing(workdir):
    chosen = choose(clip_sets(workdir), ALL)
    assert chosen["prompt"].tolist() == [prompt for prompt in PROMPTS for _ in range(2)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"set": "losers"}, "--set=losers: no such clips; there are evaluation"),
        ({"policy": "rwr"}, "--policy=rwr: the evaluation clips are of pretrained, dpo"),
        ({"split": "validation"}, "--split=validation: .* prompts of test, train"),
        ({"prompt": "rolls a red ball"}, "in none of the 3 prompts; did you mean a red ball rolls"),
        ({"policy": "dpo", "accepted": False}, "of the 3 clips that match .* none is rejected"),
    ],
)
def test_what_does_not_match_is_named_with_what_there_is(workdir, fields, message):
    with pytest.raises(ValueError, match=message):
        choose(clip_sets(workdir), dataclasses.replace(ALL, **fields))


def test_without_a_judge_nothing_is_accepted_or_rejected(tmp_path):
    write_clips(tmp_path, "dpo", judged=False)
    sets = clip_sets(tmp_path)
    assert overview(sets).rows[0][-1] is None
    (row, *_) = read_rows(sets, choose(sets, ALL), "evaluation")
    assert row.accepted is None
    with pytest.raises(ValueError, match="--noaccepted: no judge scored the evaluation clips"):
        choose(sets, dataclasses.replace(ALL, accepted=False))


def test_folders_without_clips_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        clip_sets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no clips yet"):
        clip_sets(tmp_path)


def test_the_newest_run_counts_or_the_one_whose_folder_is_given(tmp_path):
    old = write_clips(tmp_path, "dpo", end="a" * 12, judged=False)
    new = write_clips(tmp_path, "dpo", end="b" * 12)
    os.utime(tmp_path / old[0] / "done.json", (1, 1))
    (found,) = clip_sets(tmp_path)
    assert [found.folder.name, found.labels.name] == new
    own = tmp_path / "runs" / "dpo-mini-000000000000"
    own.mkdir(parents=True)
    write_record(own, RunRecord("dpo:mini", tuple(old), {"dpo": old[0]}, {}))
    (found,) = clip_sets(own)
    assert (found.folder.name, found.labels) == (old[0], None)


def test_the_choice_in_words():
    wanted = Wanted("evaluation", "dpo_round2", "test", "ball", False)
    assert describe(wanted) == (
        "evaluation clips, DPO, round 2, held-out prompts, prompts with 'ball', rejected"
    )
