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
