"""Clips through measures: what is kept, what fails by itself, and the metrics made of it."""

import json

import numpy as np
import pandas as pd
import pytest

from vidpref.datasets.video_writing import encode_clip
from vidpref.evaluation.intervals import clustered_mean, clustered_rate
from vidpref.runs.measure_videos import measure_clips
from vidpref.runs.metric_results import (
    account,
    clip_table,
    read_vbench_results,
    results,
    table,
    vbench_of,
    write_results,
)


class Brightness:
    """Mean of a clip's bytes, or features of them; refuses and fails as it is told."""

    of_prompt = False

    def __init__(self, name="temporal_flickering", width=0, broken=(), of_prompt=False):
        self.name, self.width, self.broken, self.asked = name, width, broken, 0
        self.causes, self.of_prompt = {"width": width}, of_prompt

    def why_not(self, clip):
        return "too_short: few" if len(clip.frames) < 3 else ""

    def __call__(self, clips):
        self.asked += len(clips)
        means = [clip.frames.mean() / 255 for clip in clips]
        if any(round(255 * mean) in self.broken for mean in means):
            raise ValueError("broken")
        if not self.width:
            return [np.asarray(m, np.float32) for m in means]
        return [np.asarray([m, m**2, np.nan if m > 0.9 else 1.0][: self.width]) for m in means]


def write(folder, greys, frames=4, size=(32, 48), fps=8):
    """Grey clips; returns them as a list."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number, grey in enumerate(greys):
        path = folder / f"{number}.mp4"
        encode_clip(path, np.full((frames, *size, 3), grey, np.uint8), fps)
        rows.append({"id": path.name, "path": str(path), "prompt": f"prompt {number // 2}"})
    return pd.DataFrame(rows)


def test_values_are_kept_by_content(tmp_path):
    clips, cache = write(tmp_path / "a", [40, 80, 120]), tmp_path / "cache"
    first = Brightness()
    measured = measure_clips("a", clips, {first.name: first}, cache, 2)
    values = dict(measured.values(first.name))
    assert [round(255 * float(v)) for v in values.values()] == pytest.approx([40, 80, 120], abs=2)
    assert first.asked == 3
    clips.loc[1, "path"] = str((tmp_path / "a" / "1.mp4").rename(tmp_path / "moved.mp4"))
    again = Brightness()
    found = measure_clips("b", clips, {again.name: again}, cache, 2)
    assert dict(found.values(again.name)) == values
    assert again.asked == 0
    other = Brightness(width=2)  # has other causes
    measure_clips("b", clips, {other.name: other}, cache, 2)
    assert other.asked == 3
    told = Brightness(of_prompt=True)
    measure_clips("b", clips, {told.name: told}, tmp_path / "cache2", 2)
    measure_clips("b", clips.assign(prompt="other"), {told.name: told}, tmp_path / "cache2", 2)
    assert told.asked == 6


def test_a_clip_that_fails_fails_alone(tmp_path):
    clips = write(tmp_path / "a", [40, 80, 120, 160, 250])
    encode_clip(tmp_path / "a" / "3.mp4", np.full((2, 32, 48, 3), 160, np.uint8), 8)
    (tmp_path / "a" / "0.mp4").write_bytes(b"")
    clips.loc[len(clips)] = ["gone.mp4", str(tmp_path / "gone.mp4"), ""]
    measure = Brightness("videomae", width=3, broken={119, 120, 121})
    measured = measure_clips("a", clips, {measure.name: measure}, tmp_path / "cache", 4)
    assert [number for number, _ in measured.values(measure.name)] == [1]
    failures = measured.failures[measure.name]
    assert failures[0].startswith("empty")
    assert failures[2] == "refused: broken"
    assert failures[3] == "too_short: few"
    assert failures[4] == "the network's values are not finite"
    assert failures[5].startswith("missing")
    assert sorted(measured.failures["shape"]) == [0, 5]
    told = clip_table([measured], ["fvd_videomae"])["failure"]
    assert told[1] == ""
    assert told[2] == "videomae: refused: broken"
    assert told[5].startswith("missing: ")


def test_metrics_of_programs(tmp_path):
    greys = {"a": [40, 80, 120, 160], "b": [44, 90, 121, 170, 30]}
    programs = {}
    for name, values in greys.items():
        measures = {
            "videomae": Brightness("videomae", width=2),
            "temporal_flickering": Brightness(),
            "dynamic_degree": Brightness("dynamic_degree"),
        }
        size, fps = ((32, 48), 8) if name == "a" else ((48, 48), 12)
        clips = write(tmp_path / name, values, size=size, fps=fps)
        programs[name] = measure_clips(name, clips, measures, tmp_path / "cache", 3)
    names = ["fvd_videomae", "temporal_flickering", "dynamic_degree"]
    found = results(programs["a"], programs["b"], names, 10)
    features = [
        np.stack([v for _, v in programs[name].values("videomae")]).astype(np.float64)
        for name in greys
    ]
    c1, c2 = (np.cov(x, rowvar=False) for x in features)
    # in two dimensions the trace of a root is sqrt(trace + 2 sqrt(determinant))
    root = np.sqrt(np.trace(c1 @ c2) + 2 * np.sqrt(np.linalg.det(c1) * np.linalg.det(c2)))
    means = np.square(features[0].mean(0) - features[1].mean(0)).sum()
    assert found[0].value == pytest.approx(means + np.trace(c1 + c2) - 2 * root, rel=1e-6)
    assert "4 clips against 5" in found[0].note
    assert "height 32, of the reference 48" in found[0].note
    assert "fps 8, of the reference 12" in found[0].note
    assert "biased" not in found[0].note  # 4 clips for 2 features
    values = np.array([float(v) for _, v in programs["a"].values("temporal_flickering")])
    wanted = clustered_mean(values, np.array([0, 0, 1, 1]), bounds=(0.0, 1.0))
    assert (found[1].value, found[1].low, found[1].high) == wanted
    assert found[1].note == "2 prompts"
    rate = clustered_rate(values, np.array([0, 0, 1, 1]))
    assert (found[2].value, found[2].low, found[2].high) == rate
    with pytest.raises(ValueError, match="fvd_videomae is a distance: give a reference"):
        results(programs["a"], None, names, 10)
    shown, clips = table(found), clip_table(list(programs.values()), names)
    assert shown["better"].tolist() == ["lower", "higher", "higher"]
    assert shown["normalised"][1] == pytest.approx((values.mean() - 0.6293) / (1 - 0.6293))
    vbench = {"a": vbench_of(found, {})}
    write_results(tmp_path / "out", shown, clips, vbench, {"seed": 1})
    whole = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [row["metric"] for row in whole["metrics"]] == names
    assert whole["metrics"][0]["low"] is None
    assert len(pd.read_csv(tmp_path / "out" / "clips.csv")) == 9
    assert "a:\n  fvd_videomae v " in account(shown, clips, vbench)


def test_vbenchs_own_results_are_read(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"object class": [0.5, [{"video_path": "a"}]], "scene": 0.25}))
    assert read_vbench_results(path) == {"object_class": 0.5, "scene": 0.25}
    for held, message in (
        ({"colour": 1}, "no dimension 'colour'"),
        ({"scene": ["a"]}, "scene is no number"),
        ([1], "holds no dimensions"),
    ):
        path.write_text(json.dumps(held))
        with pytest.raises(ValueError, match=message):
            read_vbench_results(path)
