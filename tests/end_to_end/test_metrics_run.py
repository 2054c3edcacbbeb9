"""A run whose judge is metrics: weights by a weighted sum of two, tables beside the truth."""

import json

import numpy as np
import pytest

from tests.end_to_end.tiny import TINY
from tests.interop.tiny_clip import write_clip
from tests.rewards.metric_folders import write_raft
from vidpref.generation.adopt import load_config
from vidpref.runs import report, rounds
from vidpref.stages.label import read_labels

NAMES = ("clip_score", "optical_flow")
FEW = (
    *("label.prompts=2", "evaluate.train_prompts=2", "evaluate.test_prompts=2"),
    *("label.per_prompt=2", "evaluate.per_prompt=2"),
)


@pytest.mark.slow
def test_rwr_learns_from_a_weighted_sum_of_metrics(tmp_path):
    write_clip(tmp_path / "clip")
    raft = write_raft(tmp_path / "raft")
    judge = (
        "reward.name=metrics",
        "reward.dimension=clip_score",
        f"reward.metrics.clip_score.folder={tmp_path / 'clip'}",
        f"reward.metrics.optical_flow.weights={raft}",
        "reward.metrics.optical_flow.updates=1",
        "reward.metrics.optical_flow.eta=0.1",
        "reward.metrics.optical_flow.gamma=1.0",
        "align.reward.clip_score=1.0",
        "align.reward.optical_flow=0.5",
        "evaluate.best_of=()",
        "evaluate.verifier=True",
    )
    config = load_config("rwr_aif:mini", [*TINY, *FEW, *judge])
    done = rounds.run(config, tmp_path / "work")
    folders = {f.stage.name: f.path for f in done.stages}
    labels = read_labels(folders["label-train-pretrained"])
    assert np.isfinite(labels[list(NAMES)]).all(axis=None)
    assert (labels["optical_flow"] > 1).all()
    np.testing.assert_array_equal(labels["score"], labels["clip_score"])
    page = report.write_run_report(done, command="test").read_text()
    evaluation = json.loads((tmp_path / "work" / "evaluation.json").read_text())
    assert evaluation["proxy"]
    assert "clip_score" in page
    metrics = [json.loads(line) for line in (folders["align-rwr-round1"] / "metrics.jsonl").open()]
    assert np.isfinite([row["loss"] for row in metrics if "loss" in row]).all()
