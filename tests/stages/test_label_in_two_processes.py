"""Two processes draw and label half of the clips each; an error in one ends both."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.stages.label_in_two_processes import CLIPS, label_with, numbered
from tests.stages.sampled_clips import write_sampled
from tests.two_processes import run_two
from vidpref.rewards.registry import REWARDS
from vidpref.stages import label
from vidpref.stages.sample import read_clips

WORKER = "tests/stages/label_in_two_processes.py"


@pytest.fixture
def one(tmp_path, monkeypatch):
    """The folder of a single process."""
    monkeypatch.setattr(label, "_CHUNK", 4)
    monkeypatch.setitem(REWARDS, "pixels", None)  # and away again after the test
    folder = tmp_path / "one"
    folder.mkdir()
    write_sampled(folder, numbered(CLIPS), batch_size=4)
    assert label_with(folder) == list(range(CLIPS))
    return folder


def test_two_processes_label_what_one_does(one, tmp_path):
    two = tmp_path / "two"
    two.mkdir()
    run_two(WORKER, two)
    clips = read_clips(two)
    assert len({*two.glob("clips-*.array_record")}) == 2 * 3
    ids = [f"scene/{i}" for i in range(CLIPS)]
    assert clips.index["clip_id"].tolist() == ids
    for number, name in enumerate(ids):
        for record in (clips[number], clips.clip(name)):
            assert record["clip_id"] == name
            np.testing.assert_array_equal(record["video"], numbered(CLIPS)[number])
    pd.testing.assert_frame_equal(label.read_labels(two), label.read_labels(one))

    first, second = (json.loads((two / f"found-{rank}.json").read_text()) for rank in (0, 1))
    for what in ("lost", "error", "mean lost", "mean"):
        assert first[what] == second[what]
    lost = first["lost"].splitlines()
    assert lost[0] == (
        "process 1: JudgeError: 1 of 4 clips got no verdict from the pixels (1 times: 5 is lost):"
    )
    assert lost[1] == "  clip scene/5, 'prompt 5': 5 is lost"
    assert lost[2].startswith("The labels of 3 of these 4 clips are kept in")
    assert first["error"] == "process 1: ValueError: out of order"
    # what was labelled before is not asked again, by nobody
    assert (first["asked"], second["asked"]) == ([], [5])
    assert first["again"] == second["again"] == []
    assert first["mean lost"].startswith("process 1: JudgeError: 1 of 1 clips got no verdict")
    assert first["mean"] == pytest.approx((1 + 2 + 3) / 3 / 16)

    # groups that were just drawn: every process has the scores of all
    scores = (np.arange(16) / 16).reshape(8, 2)
    scores[1, 1] = -1.0
    assert first["groups"] == second["groups"] == scores.tolist()
    assert first["groups error"] == "process 1: ValueError: out of order"
    assert first["no group"].startswith("step 1: 8 of 8 clips got no verdict from the pixels")
    for what in ("groups error", "no group"):
        assert first[what] == second[what]


def test_one_process_goes_on_where_two_began(one, tmp_path):
    two = tmp_path / "two"
    two.mkdir()
    run_two(WORKER, two)
    (two / "clips.parquet").unlink()  # as if killed before
    write_sampled(two, numbered(CLIPS), batch_size=4)
    assert len({*two.glob("clips-*.array_record")}) == 2 * 3  # they are used as they are
    pd.testing.assert_frame_equal(read_clips(two).index, read_clips(one).index)
