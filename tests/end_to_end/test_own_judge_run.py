"""VideoAlign's pipeline in one run: a judge is trained, labels clips, and is held to the truth."""

import json

import numpy as np
import pandas as pd
import pytest

import vidpref
from tests.end_to_end.tiny import TINY_FLOW, TINY_JUDGE
from vidpref.generation.adopt import load_config
from vidpref.interop.video_reward import VideoRewardFolder
from vidpref.rewards.by_name import judge_config
from vidpref.rewards.verifier import Verifier
from vidpref.runs import report, rounds
from vidpref.stages.label import read_labels
from vidpref.stages.sample import read_clips

# Clips of a generator that has learnt next to nothing are alike, and a judge sees no difference.
LEARNT = ("pretrain.train.optimizer.learning_rate=3e-2", "align.validation.per_prompt=3")
OVERALL = ("visual_quality", "motion_quality", "text_alignment")


def test_a_run_trains_its_judge_and_is_held_to_the_truth(tmp_path):
    config = load_config("videoalign:mini", [*TINY_FLOW, *TINY_JUDGE, *LEARNT])
    done = rounds.run(config, tmp_path)
    names = [f.stage.name for f in done.stages]
    page = report.write_run_report(done, command="test").read_text()
    order = ["judged-clips", "judge-base", "judge", "label-train-pretrained"]
    order += ["align-videoalign-round1", "label-evaluation-videoalign"]
    places = [names.index(name) for name in order]
    assert places == sorted(places)
    folders = {f.stage.name: f.path for f in done.stages}

    # it learnt from the generator's clips, all of a prompt compared, and from no other split's
    world = folders["judged-clips"]
    seen = pd.read_parquet(world / "preference_clips.parquet").set_index("id")
    said = pd.read_parquet(world / "comparisons.parquet")
    account = json.loads((folders["judge"] / "judge.json").read_text())
    assert len(seen) == 6 * 4 + 4 * 3 + 5 * 4
    assert (account["validation"]["clips"], account["test"]["clips"]) == (4 * 3, 5 * 4)
    assert len(said) == 3 * (6 * 6 + 4 * 3 + 5 * 6)
    truth = read_labels(folders["verify-train-pretrained"]).set_index("clip_id")
    for row in said[said["clip_a"].isin(truth.index)].itertuples():
        gap = truth.loc[row.clip_a, row.dimension] - truth.loc[row.clip_b, row.dimension]
        assert row.verdict == ("tie" if abs(gap) <= 0.02 else "A" if gap > 0 else "B")

    # the labels are the trained model's, normalised as its folder says
    model = VideoRewardFolder(folders["judge"] / "judge")
    labels = read_labels(folders["label-train-pretrained"])
    assert set(labels["who"]) == {"video_reward"}
    np.testing.assert_allclose(
        labels["score"], labels[list(OVERALL)].mean(axis=1), rtol=1e-4, atol=1e-5
    )
    numbers = labels["rationale"].str.extract(r"raw visual_quality (-?[\d.]+),")[0].astype(float)
    scale = model.settings.normalisation
    expected = (numbers - scale.mean["visual_quality"]) / scale.std["visual_quality"]
    rounded = 1e-4 / scale.std["visual_quality"]
    np.testing.assert_allclose(labels["visual_quality"], expected, atol=5 * rounded + 1e-4)
    account = json.loads((folders["align-videoalign-round1"] / "pairs.json").read_text())
    assert account["rows"] > 0

    # tables go by the verifier, and the judge stands beside it
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert "The judge against the truth" in page
    assert pd.read_csv(tmp_path / "proxy.csv")["Policy"].unique().tolist() == [
        "pretrained",
        "VideoAlign",
    ]
    for policy in ("pretrained", "videoalign"):
        clips = read_clips(folders[f"sample-evaluation-{policy}"])
        index = clips.index
        test = np.flatnonzero(index["split"] == "test")
        shown = np.stack([clips[i]["video"] for i in test])
        true = Verifier(("accept", *OVERALL)).score(shown, index["prompt"].iloc[test].tolist())
        judged = read_labels(folders[f"label-evaluation-{policy}"])["overall"].to_numpy()[test]
        truth = np.mean([true.scores[name] for name in OVERALL], axis=0)
        entry = evaluation["proxy"]["test"]["overall"][policy]
        assert entry["judge"]["mean"] == pytest.approx(judged.mean(), abs=1e-5)
        assert entry["truth"]["mean"] == pytest.approx(truth.mean(), abs=1e-5)
        if entry["pearson"] is not None:
            assert entry["pearson"] == pytest.approx(np.corrcoef(judged, truth)[0, 1], abs=1e-3)
        accepted = evaluation["policies"][policy]["test"]["accept"]
        assert accepted == pytest.approx(true.scores["accept"].mean())
    entry = evaluation["proxy"]["test"]["overall"]
    for side in ("judge", "truth"):
        gain = entry["videoalign"][side]["mean"] - entry["pretrained"][side]["mean"]
        assert entry["videoalign"][f"{side}_gain"]["diff"] == pytest.approx(gain, abs=1e-5)

    # a finished run is asked with the judge that it trained, and nothing runs twice
    run = vidpref.open_run(tmp_path)
    labels = read_labels(folders["label-evaluation-videoalign"]).iloc[:3]
    clips = read_clips(folders["sample-evaluation-videoalign"])
    shown = np.stack([clips.clip(name)["video"] for name in labels["clip_id"]])
    said = run.score(shown, labels["prompt"].tolist())
    np.testing.assert_allclose(said["overall"], labels["overall"], rtol=1e-3, atol=1e-3)
    assert all(f.reused for f in rounds.run(config, tmp_path).stages)
    with pytest.raises(ValueError, match=r"trained by it: give its folder, judge-\*/judge"):
        judge_config(str(tmp_path))
