"""benchmarks/mini_clip.py as a user runs it: the reward takes what it writes."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from vidpref.config.fields import build
from vidpref.config.metrics import Metrics, TextImage
from vidpref.config.schema import Reward
from vidpref.datasets.miniworld import prompts, render, scene
from vidpref.rewards.registry import build_reward

ROOT = Path(__file__).resolve().parents[2]


def run(out, *flags):
    command = [sys.executable, "benchmarks/mini_clip.py", f"--out={out}", "--steps=2", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_both_models_score_clips(tmp_path):
    few = ("--batch_size=4", "--clips_per_prompt=1")
    code, text = run(tmp_path, *few)
    assert code == 0, text
    assert "found among 213 held-out prompts (chance 0.5 %): frame " in text
    code, text = run(tmp_path, *few, "--preferences")
    assert code == 0, text
    assert "held-out pairs the verifier accepts one clip" in text
    names = ("clip_score", "pick_score")
    metrics = Metrics(**{name: TextImage(folder=str(tmp_path / name)) for name in names})
    section = Reward(name="metrics", dimension=names[0], dimensions=names, metrics=metrics)
    asked = prompts("test")[:2]
    clips = np.stack([render(scene(prompt, 0)) for prompt in asked])
    found = build_reward(build(section)).score(clips, [prompt.text for prompt in asked])
    assert all(np.isfinite(found.scores[name]).all() for name in names)


def test_what_is_there_is_kept_and_overrides_are_refused(tmp_path):
    kept = tmp_path / "clip_score" / "mine"
    kept.parent.mkdir()
    kept.touch()
    code, text = run(tmp_path)
    assert code != 0
    assert f"{kept.parent} is there already" in text
    assert kept.exists()
    code, text = run(tmp_path, "--config.seed=1")
    assert code != 0
    assert "there is no config here" in text
