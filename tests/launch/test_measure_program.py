"""The program that measures folders of videos, as a user types it."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from tests.interop import tiny_clip
from tests.launch.test_score_program import program
from tests.models.torch_parity import randomize
from vidpref.datasets.video_writing import encode_clip
from vidpref.evaluation.frechet import Moments, distance_of
from vidpref.evaluation.vbench_dimensions import temporal_flickering

PROMPTS = ["a red cat", "two dogs", "a cup"]


def clip(seed, frames=6, bright=1.0):
    """A smooth pattern that drifts, so that a video file holds it nearly as it is."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    a, b = random.uniform(4, 12, 2)
    shown = [127 + 100 * bright * np.sin(x / a + y / b + t * random.uniform(0.3, 0.6))
             for t in range(frames)]  # fmt: skip
    return np.stack(shown)[..., None].repeat(3, axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("measure")
    for name, bright, count in (("ours", 1.0, 6), ("theirs", 0.5, 6), ("real", 0.9, 7)):
        (root / name).mkdir()
        for number in range(count):
            prompt = PROMPTS[number % 3]
            encode_clip(root / name / f"{prompt}-{number}.mp4", clip(number, bright=bright), 8)
    encode_clip(root / "theirs" / "a cup-9.mp4", clip(9, frames=3), 8)
    (root / "theirs" / "a cup-8.mp4").write_bytes(b"no video")
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        image_size=32, patch_size=16, num_frames=4,
    )  # fmt: skip
    model = transformers.VideoMAEModel(config)
    randomize(model)
    model.save_pretrained(root / "videomae")
    tiny_clip.write_clip(root / "clip")
    return root


def measure(folder, *argv):
    return program(
        "measure", f"--videos={folder / 'ours'},{folder / 'theirs'}",
        f"--reference={folder / 'real'}", "--named_by_prompts", f"--out={folder / 'out'}",
        f"--videomae={folder / 'videomae'}", f"--clip={folder / 'clip'}", *argv,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(folder):
    done = measure(folder)
    assert done.returncode == 0, done.stderr
    return done


def rows(folder):
    table = pd.read_csv(folder / "out" / "metrics.csv")
    return {(row.program.rpartition("/")[2], row.metric): row for row in table.itertuples()}


def test_the_table_has_what_can_be_measured(folder, measured):
    found = rows(folder)
    names = ("fvd_videomae", "clip_score", "temporal_flickering")
    assert list(found) == [(p, name) for p in ("ours", "theirs") for name in names]
    assert found["ours", "fvd_videomae"].value < found["theirs", "fvd_videomae"].value
    assert found["ours", "fvd_videomae"].clips == 6
    assert "6 clips for 8 features: biased" in found["ours", "fvd_videomae"].note
    assert "6 clips against 7" in found["ours", "fvd_videomae"].note
    score = found["ours", "clip_score"]
    assert -1 <= score.low < score.value < score.high <= 1
    assert score.note == "3 prompts"
    assert "ours:\n  fvd_videomae v" in measured.stdout
    assert "no VBench total without subject_consistency, " in measured.stdout


def test_clips_that_cannot_be_measured_are_named(folder, measured):
    clips = pd.read_csv(folder / "out" / "clips.csv", keep_default_na=False)
    failed = {row.clip: row.failure for row in clips.itertuples() if row.failure}
    assert set(failed) == {"a cup-8.mp4", "a cup-9.mp4"}
    assert failed["a cup-9.mp4"] == "videomae: too_short: 3 frames, and 4 are needed"
    assert failed["a cup-8.mp4"].startswith("not_a_video")
    assert "2 of 21 clips could not be measured in all" in measured.stdout
    whole = json.loads((folder / "out" / "metrics.json").read_text())
    assert [one["clip"] for one in whole["not_measured"]] == ["a cup-8.mp4", "a cup-9.mp4"]
    assert whole["settings"]["videomae"]["frames"] == 4
    assert rows(folder)["theirs", "temporal_flickering"].clips == 7


def test_numbers_are_those_of_the_functions(folder, measured):
    """From the values that are kept, and from a file itself."""
    clips = pd.read_csv(folder / "out" / "clips.csv")
    from vidpref.datasets.video import decode_frames

    frames, _ = decode_frames(folder / "ours" / "two dogs-1.mp4")
    one = clips[(clips["clip"] == "two dogs-1.mp4") & clips["program"].str.endswith("ours")]
    assert one["temporal_flickering"].item() == pytest.approx(temporal_flickering(frames), abs=1e-6)
    assert one[["frames", "height", "width"]].to_numpy().tolist() == [[6, 48, 64]]
    features = list((folder / "measure_cache").glob("videomae-*/*/*.npy"))
    assert len(features) == 19
    everything, twice = Moments(8), Moments(8)
    for path in features:
        everything.add(np.load(path)[None])
        twice.add(np.load(path)[None])
    assert distance_of(everything, twice) < 1e-9


def test_nothing_is_measured_twice(folder, measured):
    before = {p: p.stat().st_mtime_ns for p in (folder / "measure_cache").rglob("*.npy")}
    moved = folder / "moved"
    shutil.copytree(folder / "ours", moved)
    done = program(
        "measure", f"--videos={moved}", "--named_by_prompts", f"--out={folder / 'again'}",
        f"--clip={folder / 'clip'}", f"--cache={folder / 'measure_cache'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    after = {p: p.stat().st_mtime_ns for p in (folder / "measure_cache").rglob("*.npy")}
    assert after == before
    again = pd.read_csv(folder / "again" / "metrics.csv").set_index("metric")["value"]
    assert again["clip_score"] == rows(folder)["ours", "clip_score"].value


def test_vbench_of_dimensions_from_elsewhere(folder, measured):
    from vidpref.evaluation.vbench_scores import DIMENSIONS

    held = {name: [0.6, []] for name in DIMENSIONS if name != "temporal_flickering"}
    (folder / "vbench.json").write_text(json.dumps(held))
    done = program(
        "measure", f"--videos={folder / 'ours'}", "--metrics=temporal_flickering",
        f"--out={folder / 'vbench'}", f"--vbench_results={folder / 'vbench.json'}",
        f"--cache={folder / 'measure_cache'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (scores,) = json.loads((folder / "vbench" / "metrics.json").read_text())["vbench"].values()
    assert scores["total"] == pytest.approx((4 * scores["quality"] + scores["semantic"]) / 5)
    assert "VBench total" in done.stdout
