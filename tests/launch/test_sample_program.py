"""The sampling program as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.torch_parity import relative_error
from tests.probing import probe
from tests.tiny_pipelines import LATENT_CHANNELS, tiny_wan
from vidpref.datasets.video import decode_clip

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

    two, again = latents(1, 2), latents(1, 1)
    assert two.shape == (2, LATENT_CHANNELS, 1, 2, 2)
    np.testing.assert_allclose(two[:1], again, atol=1e-5)
    assert np.abs(two[0] - two[1]).max() > 0.1
    assert (folder / "clip-001.mp4").exists()
    assert (folder / "clip.mp4").exists()


@pytest.fixture(scope="module")
def mistaken(folder, pipe):
    """Files and folders that are not what they are taken for."""
    tiny_wan(folder / "i2v", image_to_video=True)
    np.save(folder / "flat.npy", np.zeros((4, 4)))
    np.save(folder / "six.npy", np.zeros((1,) * 6))
    (folder / "clip").touch()
    (folder / "v1.mp4").mkdir()
    (folder / "v-001.mp4").mkdir()


def test_the_name_of_a_folder_may_have_a_dot(folder, pipe, sample):
    done = sample(
        "--model=pipe",
        "--prompt=a",
        "--steps=1",
        "--guidance_scale=1",
        "--num_frames=1",
        "--height=16",
        "--width=16",
        "--dtype=float32",
        "--config.text.length=16",
        "--out=v1.5/",
    )
    assert done.stdout == "v1.5/000.mp4: a\n", done.stderr
    assert (folder / "v1.5" / "000.mp4").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prompt=a"], "give either --model=FOLDER or --workdir=FOLDER"),
        (["--model=pipe"], "give either --prompt or --prompts_file"),
        (["--model=pipe", "--promt=a"], "Did you mean: prompt"),
        (["--model=pipe", "--prompt=a", "--out=a.gif"], "unknown container 'gif'"),
        (["--model=none", "--prompt=a", "--fps=0"], "--fps=0: give a number above 0"),
        (["--model=none", "--prompt=a", "--fps=inf"], "--fps=inf: give a finite number"),
        (["--model=none", "--prompt=a", "--steps=0"], "0 is not a positive integer"),
        (["--model=none", "--prompt=a", "--out=clip"], "--out=clip is a file: name a folder"),
        (["--model=none", "--prompt=a", "--out=v1.mp4"], "v1.mp4 is a folder; name a video file"),
        (
            ["--model=none", "--prompt=a", "--per_prompt=2", "--out=v.mp4"],
            "--out=v.mp4: v-001.mp4 is a folder",
        ),
        (["--model=none", "--prompt=a", "--out=clip/a/x.mp4"], "clip is no folder"),
        (["--model=none", "--prompt=a", "--save_latents=x"], "name a file that ends in .npy"),
        (["--model=none", "--prompt=a", "--image=x.png"], "--image=x.png: no such file"),
        (["--model=none", "--prompt=a", "--scene=s"], "--scene goes with --workdir"),
        (["--model=none", "--prompt=a", "--policy=p"], "--policy goes with --workdir"),
        (
            ["--workdir=none", "--prompt=a", "--scene=s", "--image=x.png"],
            "give either --scene or --image",
        ),
        (["--workdir=none", "--prompt=a", "--lora=x"], "--lora goes with --model"),
        (["--model=none", "--prompt=a", "--lora_scale=2"], "--lora_scale goes with --lora=FILE"),
        (["--model=pipe", "--prompt=a", "--lora=x", "--lora_scale=nan"], "--lora_scale=nan: give"),
        (["--model=pipe", "--prompt=a", "--lora=x", *SMALL], "x: no such file or folder of LoRA"),
        (["--workdir=none", "--prompt=a", "--steps=3"], "--steps goes with --model"),
        (["--workdir=none", "--prompt=a", "--dtype=float32"], "--dtype goes with --model"),
        (
            ["--workdir=none", "--prompt=a", "--config.align.beta=2"],
            "--config.align.beta goes with --model",
        ),
        (["--model=pipe", "--prompt=a", "--image=flat.npy", *SMALL], "sees no first frame"),
        (["--model=i2v", "--prompt=a", *SMALL], "starts from an image, the first frame of its cl"),
        (["--model=pipe", "--prompt=a", "--init_noise=flat.npy"], "has shape (4, 4), wanted"),
        (["--model=pipe", "--prompt=a", "--step_noise=flat.npy"], "wanted (clips, steps, channels"),
        (
            ["--model=pipe", "--prompt=a", "--step_noise=six.npy", *SMALL],
            "unipc adds no noise at its steps",
        ),
    ],
)
def test_mistakes_are_answered_in_words(mistaken, sample, argv, message):
    done = sample(*argv)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
