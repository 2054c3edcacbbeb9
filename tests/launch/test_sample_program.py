"""The sampling program as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.torch_parity import relative_error
from tests.tiny_pipelines import LATENT_CHANNELS, tiny_wan
from vidpref.datasets.video import decode_clip, probe

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ["a red circle moves", "the blue square"]
SMALL = ("--num_frames=5", "--height=32", "--width=32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def pipe(folder):
    return tiny_wan(folder / "pipe")


@pytest.fixture(scope="module")
def sample(folder):
    """Runs the program in its own folder, where the runs share their compiled programs."""
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XLA_FLAGS": "",
    }

    def run(*argv):
        command = [sys.executable, str(ROOT / "launch/sample.py"), *argv]
        return subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=600
        )

    return run


def test_a_file_of_prompts_gives_the_clips_of_diffusers(folder, pipe, sample):
    (folder / "prompts.txt").write_text("\n".join([PROMPTS[0], "", f" {PROMPTS[1]} "]))
    noise = np.random.default_rng(0).normal(size=(2, LATENT_CHANNELS, 2, 4, 4))
    np.save(folder / "noise.npy", noise)
    size = {"num_frames": 5, "height": 32, "width": 32}
    done = sample(
        "--model=pipe",
        "--prompts_file=prompts.txt",
        "--init_noise=noise.npy",
        "--steps=2",
        "--guidance_scale=4",
        "--negative_prompt=a cat, the cat",
        "--dtype=float32",
        "--save_latents=new/latents.npy",
        "--out=clips",
        "--fps=12",
        *(f"--{name}={value}" for name, value in size.items()),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"clips/00{i}.mp4: {prompt}" for i, prompt in enumerate(PROMPTS)
    ]
    assert "steps 2/2" in done.stderr
    states = []
    frames = pipe(
        PROMPTS,
        ["a cat, the cat"] * 2,
        latents=torch.from_numpy(noise.astype(np.float32)),
        num_inference_steps=2,
        guidance_scale=4.0,
        callback_on_step_end=lambda pipe, i, t, tensors: states.append(tensors["latents"]) or {},
        **size,
    ).frames
    latents = np.load(folder / "new" / "latents.npy")
    assert latents.dtype == np.float32
    assert relative_error(latents, states[-1].numpy()) < 1e-5
    for i in range(2):
        path = folder / "clips" / f"00{i}.mp4"
        assert probe(path).fps == 12.0
        clip = decode_clip(path, frames=5, height=32, width=32)
        own, other = (np.abs(clip - 255.0 * frames[j]).mean() for j in (i, 1 - i))
        assert own < 10 < other  # levels of 256; the frames are hard for H.264


def test_a_seed_gives_the_same_clip_twice(folder, pipe, sample):
    def latents(seed, count):
        done = sample(
            "--model=pipe",
            f"--prompt={PROMPTS[0]}",
            f"--seed={seed}",
            f"--per_prompt={count}",
            "--steps=1",
            "--guidance_scale=1",
            "--num_frames=1",
            "--height=16",
            "--width=16",
            "--dtype=float32",
            "--config.text.length=16",
            "--save_latents=latents.npy",
            "--out=clip.mp4",
        )
        assert done.returncode == 0, done.stderr
        return np.load(folder / "latents.npy")

    two, again, other = latents(1, 2), latents(1, 1), latents(2, 1)
    assert two.shape == (2, LATENT_CHANNELS, 1, 2, 2)
    np.testing.assert_allclose(two[:1], again, atol=1e-5)
    assert np.abs(two[0] - two[1]).max() > 0.1
    assert np.abs(again - other).max() > 0.1
    assert (folder / "clip-001.mp4").exists()
    assert (folder / "clip.mp4").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prompt=a"], "give either --model=FOLDER or --workdir=FOLDER"),
        (["--model=pipe"], "give either --prompt or --prompts_file"),
        (["--model=pipe", "--promt=a"], "Did you mean: prompt"),
        (["--model=pipe", "--prompt=a", "--out=a.gif"], "unknown container 'gif'"),
        (["--model=pipe", "--prompt=a", "--init_noise=flat.npy"], "has shape (4, 4), wanted"),
        (["--model=pipe", "--prompt=a", "--step_noise=flat.npy"], "wanted (clips, steps, channels"),
        (
            ["--model=pipe", "--prompt=a", "--step_noise=six.npy", *SMALL],
            "unipc adds no noise at its steps",
        ),
    ],
)
def test_mistakes_are_answered_in_words(folder, pipe, sample, argv, message):
    np.save(folder / "flat.npy", np.zeros((4, 4)))
    np.save(folder / "six.npy", np.zeros((1,) * 6))
    done = sample(*argv)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
