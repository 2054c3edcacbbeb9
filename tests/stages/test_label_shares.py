"""Scores without bounds become shares of clips; those of [0, 1] stay."""

import numpy as np
import pandas as pd
from scipy import stats

from vidpref.files import write_table
from vidpref.stages.label import evaluation_frame, shares


def labels(who, **scores):
    index = {"clip_id": ["a/0", "b/0"], "scene_id": ["a", "b"], "prompt": ["a", "b"]}
    index |= {"category": "DM", "split": "test", "sample": 0}
    said = {"dimension": next(iter(scores)), "who": who, "rationale": ""}
    return pd.DataFrame({**index, "score": next(iter(scores.values())), **said, **scores})


def test_normalised_scores_are_shares_of_a_normal_distribution(tmp_path):
    known = np.float32([-0.4, 2.0])
    table = labels("video_reward", overall=known, look=[0.0, -1.0])
    found = shares(table)
    for name in ("score", "overall"):
        np.testing.assert_allclose(found[name], stats.norm.cdf(known), rtol=1e-6)
    np.testing.assert_allclose(found["look"], [0.5, stats.norm.cdf(-1)])
    assert found["sample"].tolist() == [0, 0]
    write_table(tmp_path / "labels.parquet", table)
    frame = evaluation_frame({"dpo": tmp_path})
    np.testing.assert_allclose(frame["accept"], stats.norm.cdf(known), rtol=1e-6)
    assert (frame["accept"] > 0.5).tolist() == [False, True]
    np.testing.assert_array_equal(evaluation_frame({"dpo": tmp_path}, raw=True)["overall"], known)


def test_scores_of_the_unit_interval_stay():
    for who in ("verifier", "remote_judge", "nobody"):
        table = labels(who, accept=[0.0, 1.0])
        assert shares(table) is table


def test_scores_of_which_nothing_is_known_are_shares_of_the_first_policys_clips(tmp_path):
    first = labels("metrics", clip_score=[3.0, 5.0])
    other = labels("metrics", clip_score=[5.0, 6.0])
    assert shares(first)["clip_score"].tolist() == [0.25, 0.75]
    assert shares(other, first)["score"].tolist() == [0.75, 1.0]
    folders = {}
    for name, table in (("pretrained", first), ("dpo", other)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        write_table(folders[name] / "labels.parquet", table)
    frame = evaluation_frame(folders)
    assert frame["accept"].tolist() == [0.25, 0.75, 0.75, 1.0]
    assert frame["policy"].tolist() == ["pretrained"] * 2 + ["dpo"] * 2
    assert evaluation_frame(folders, raw=True)["clip_score"].tolist() == [3, 5, 5, 6]
