"""A base against what tuned it, by the program as a user types it: drawn, judged, resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from tests.interop import tiny_clip
from tests.tiny_pipelines import tiny_wan
from vidpref.datasets.miniworld import PROMPTS
from vidpref.datasets.video import decode_frames
from vidpref.rewards.by_name import judge_config, open_judge

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--config.sampler.steps=2",
    "--config.sampler.guidance_scale=1",
    "--config.sampler.batch_size=2",
    "--config.data.frames=9",
    "--config.data.height=32",
    "--config.data.width=32",
    "--config.text.length=16",
)
JUDGES = (
    "--judges=verifier:accept+visual_quality,metrics:clip_score",
    "--config.reward.metrics.clip_score.folder=clip",
    "--num_frames=8",
)
TEXTS = [prompt.text for prompt in PROMPTS[::300]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline, a LoRA as diffusers writes it, a CLIP, and prompts of two categories."""
    folder = tmp_path_factory.mktemp("evaluate")
    pipe = tiny_wan(folder / "pipe")
    rng, tensors = np.random.default_rng(0), {}
    for name, weight in pipe.transformer.state_dict().items():
        if name.endswith(("attn1.to_q.weight", "ffn.net.2.weight")):
            layer, (out, inner) = name.removesuffix(".weight"), weight.shape
            for factor, shape in (("A", (2, inner)), ("B", (out, 2))):
                values = rng.normal(size=shape).astype(np.float32)
                tensors[f"transformer.{layer}.lora_{factor}.weight"] = values
    (folder / "lora").mkdir()
    path = folder / "lora" / "pytorch_lora_weights.safetensors"
    safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    tiny_clip.write_clip(folder / "clip")
    rows = [f"{text},{'even' if i % 2 == 0 else 'odd'}" for i, text in enumerate(TEXTS)]
    (folder / "prompts.csv").write_text("\n".join(["prompt,category", *rows, rows[0]]) + "\n")
    return folder


def command(*argv):
    return [sys.executable, str(ROOT / "launch/evaluate.py"), *map(str, argv)]


def environment(folder):
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return env | quick | {"PYTHONPATH": str(ROOT)}


def program(folder, *argv):
    return subprocess.run(
        command(*argv),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
    )


COMPARED = ("--model=pipe", "--lora=lora", "--prompts=prompts.csv", "--per_prompt=2")


@pytest.fixture(scope="module")
def straight(folder):
    done = program(folder, *COMPARED, *JUDGES, *SMALL, "--out=straight")
    assert done.returncode == 0, done.stderr
    return folder / "straight", done


def clips(out):
    found = (path for path in out.rglob("*.mp4") if path.name[0] != ".")  # those are half written
    return {path.relative_to(out): path for path in found}


def frames_of(path):
    return decode_frames(path, 0)[0].astype(int)


def test_every_clip_is_drawn_twice_and_judged(folder, straight):
    out, done = straight
    table = pd.read_csv(out / "clips.csv")
    assert table["prompt"].tolist() == [text for text in TEXTS for _ in range(2)]
    assert table["sample"].tolist() == [0, 1] * len(TEXTS)
    assert len(clips(out)) == 4 * len(TEXTS)
    assert "prompts.csv: 4 prompts (1 more are repeated)" in done.stdout
    # what is in the table is what the judges say of the files
    overrides = [f"reward.metrics.clip_score.folder={folder / 'clip'}"]
    for judge, dimension in (("metrics", "clip_score"), ("verifier", "visual_quality")):
        asked = judge_config(judge, overrides if judge == "metrics" else [], [dimension])
        reward = open_judge(asked).reward
        for side in ("before", "after"):
            frames = np.stack([decode_frames(out / path, 8)[0] for path in table[side]])
            said = reward.score(frames, table["prompt"].tolist()).scores[dimension]
            told = table[f"{judge}: {dimension.replace('_', ' ')}, {side}"]
            np.testing.assert_allclose(told, said, atol=1e-5)


def test_the_numbers_are_those_of_the_table(straight):
    out, done = straight
    table, found = pd.read_csv(out / "clips.csv"), json.loads((out / "evaluation.json").read_text())
    assert [c["dimension"] for c in found["comparisons"]] == [
        "accept",
        "visual_quality",
        "clip_score",
    ]
    scored = found["comparisons"][2]
    before, after = (table[f"metrics: clip score, {side}"] for side in ("before", "after"))
    assert scored["before"]["mean"] == pytest.approx(before.mean())
    assert scored["difference"]["mean"] == pytest.approx((after - before).mean())
    assert scored["won"] == ((after - before) > 0.005 * np.ptp([before, after])).sum()
    assert scored["won"] + scored["tied"] + scored["lost"] == 2 * len(TEXTS)
    assert (scored["won"], scored["lost"]) != (0, 0)
    rows = table["category"] == "odd"
    of_odd = scored["categories"]["odd"]["difference"]["mean"]
    assert of_odd == pytest.approx((after - before)[rows].mean())
    assert "clip score" in done.stdout
    (row,) = pd.read_csv(out / "evaluation.csv").iloc[2:].to_dict("records")
    assert row["Difference"] == pytest.approx(scored["difference"]["mean"])
    page = (out / "report.html").read_text()
    for text in TEXTS:
        assert text in page
    assert table["after"][0] in page
    assert "The largest gains and losses in metrics: clip score" in page


def test_killed_and_called_again_it_ends_with_the_same_bits(folder, straight):
    argv = (*COMPARED, *JUDGES, *SMALL, "--out=killed")
    run = subprocess.Popen(
        command(*argv), cwd=folder, env=environment(folder), stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 300
    while not (early := clips(folder / "killed")):
        assert run.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    early = {name: path.stat().st_mtime_ns for name, path in clips(folder / "killed").items()}
    expected = clips(straight[0])
    assert 0 < len(early) < len(expected)
    done = program(folder, *argv)
    assert done.returncode == 0, done.stderr
    found = clips(folder / "killed")
    assert found.keys() == expected.keys()
    other = {
        str(name): np.abs(frames_of(path) - frames_of(expected[name])).max()
        for name, path in found.items()
        if path.read_bytes() != expected[name].read_bytes()
    }
    assert not other, f"levels by which frames differ: {other}"
    assert all(found[name].stat().st_mtime_ns == when for name, when in early.items())
    for name in ("evaluation.json", "clips.csv", "evaluation.md"):
        assert (folder / "killed" / name).read_text() == (straight[0] / name).read_text()


def test_a_lora_times_nothing_changes_nothing(folder, straight):
    """Beside clips that are there, those before are neither drawn again nor scored."""
    out = folder / "again"
    shutil.copytree(straight[0], out)
    known = {name: path.stat().st_mtime_ns for name, path in clips(out).items()}
    argv = (*COMPARED, "--lora_scale=0", "--limit=3", *JUDGES, *SMALL)
    done = program(folder, *argv, "--out=again")
    assert done.returncode == 0, done.stderr
    assert "before (pipe): 6 of 6" in done.stderr
    assert all(path.stat().st_mtime_ns == known[n] for n, path in clips(out).items() if n in known)
    table = pd.read_csv(out / "clips.csv")
    assert len(table) == 6
    for first, second in zip(table["before"], table["after"], strict=True):
        assert (out / first).read_bytes() == (out / second).read_bytes()
    for comparison in json.loads((out / "evaluation.json").read_text())["comparisons"]:
        assert comparison["difference"]["mean"] == 0
        assert (comparison["won"], comparison["tied"], comparison["lost"]) == (0, 6, 0)
