"""Public generators aligned as a user does it: videos and preferences in, weights and videos out.

Tiny pipelines with random weights stand for the downloads; the videos are real mp4 files.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import diffusers
import jax
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch

from tests.models.torch_parity import relative_error
from tests.probing import probe
from tests.tiny_pipelines import LATENT_CHANNELS, TEXT_DIM, tiny_cogvideox, tiny_wan
from vidpref.datasets.video_writing import encode_clip
from vidpref.generation.adopt import load_config
from vidpref.models.condition import Condition
from vidpref.runs import compare, prompted, report, rounds
from vidpref.stages.sample import read_clips
from vidpref.training.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT.parent / "shared" / "data" / "videoalign_example" / "example.csv"
TOLERANCE = 1e-4
GRID, TOKENS = (3, 4, 6), 16

TINY = (
    "data.frames=9",
    "data.height=32",
    "data.width=48",
    "data.fps=8.0",
    "data.held_out=0.0",
    "data.encode_batch=8",
    "mesh.fsdp=1",
    "mesh.context=1",
    "compute_dtype=float32",
    "text.dtype=float32",
    f"text.length={TOKENS}",
    "align.train.steps=3",
    "align.train.batch_size=8",
    "align.train.log_every=1",
    "align.train.checkpoint_every=0",
    "align.train.optimizer.learning_rate=0.01",
    "sampler.steps=2",
    "sampler.batch_size=8",
    "evaluate.train_prompts=2",
)


def run(name, workdir, pipeline, pairs, *overrides):
    given = [f"model.init={pipeline}", f"data.pairs={pairs}", *TINY, *overrides]
    config = load_config(name, given)
    done = rounds.run(config, workdir)
    page = report.write_run_report(done, command="test").read_text()
    return done, page


def launch(program, *argv):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, f"launch/{program}.py", *argv],
        cwd=ROOT,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_video(path, seed, height=40, width=56):
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    image = blocks.repeat(8, 0).repeat(8, 1)
    encode_clip(path, np.stack([np.roll(image, 2 * t, axis=1) for t in range(10)]), fps=8)


def check_videos(workdir, page, policies, prompts):
    """Every policy has a video of every prompt, and the page shows it."""
    (folder,) = (workdir / "runs").iterdir()
    for policy in policies:
        files = sorted((folder / "samples" / policy).iterdir())
        assert [file.name for file in files] == [f"prompt-{i}-0.mp4" for i in range(len(prompts))]
        for file in files:
            info = probe(file)
            assert (info.frames, info.height, info.width) == (9, 32, 48)
            assert f'src="{file.relative_to(workdir).as_posix()}"' in page
    for prompt in prompts:
        assert prompt in page


def check_training(done, prefix):
    """The policy learnt something finite, and its clips are not those it started from."""
    paths = {f.stage.name: f.path for f in done.stages}
    (trained,) = (path for stage, path in paths.items() if stage.startswith("align-"))
    metrics = read_metrics(trained)
    losses = [record["loss"] for record in metrics]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    before = read_clips(paths["sample-evaluation-pretrained"])[0]
    after = read_clips(paths[f"sample-evaluation-{prefix}"])[0]
    assert before["clip_id"] == after["clip_id"]
    assert before["latent"].shape == (*GRID, LATENT_CHANNELS)
    assert np.abs(before["latent"] - after["latent"]).max() > 1e-3
    return metrics


def aligned(done):
    """The folder of the align stage."""
    (path,) = (f.path for f in done.stages if f.stage.name.startswith("align-"))
    return path


def reused(done):
    return {f.stage.name: f.reused for f in done.stages}


rng = np.random.default_rng(0)
X = rng.normal(size=(2, *GRID, LATENT_CHANNELS)).astype(np.float32)
TEXT = rng.normal(size=(2, TOKENS, TEXT_DIM)).astype(np.float32)
STEPS = np.array([36, 999])


def ours(recipe, policy, image=None):
    """What the run's policy makes of a noisy latent."""
    mask = np.ones(TEXT.shape[:2], bool)
    condition = Condition(text=TEXT, text_mask=mask, image_latent=image)
    tau = np.asarray((STEPS + 1) / 1000, np.float32)
    run = jax.jit(recipe.generator.apply, compiler_options={"xla_backend_optimization_level": 0})
    return np.asarray(run(policy.load(), X, tau, condition))


def of_wan(pipe):
    x, text = torch.from_numpy(X.transpose(0, 4, 1, 2, 3)), torch.from_numpy(TEXT)
    with torch.no_grad():
        out = pipe.transformer(x, torch.from_numpy(STEPS + 1).float(), text).sample
    return out.numpy().transpose(0, 2, 3, 4, 1)


@pytest.mark.skipif(not EXAMPLE.exists(), reason=f"{EXAMPLE} is not there")
def test_flow_dpo_of_wan_on_videoaligns_example(tmp_path):
    pipeline, workdir = tmp_path / "wan", tmp_path / "run"
    tiny_wan(pipeline)
    given = ("align.lora.rank=4", "data.buckets=((32,48),)")
    done, page = run("flow_dpo:wan2_1_1_3b", workdir, pipeline, EXAMPLE, *given)
    prompts = done.recipe.inputs.data.prompts
    assert len(prompts) == 2
    check_videos(workdir, page, ("pretrained", "flow_dpo"), prompts)
    metrics = check_training(done, "flow_dpo")
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)

    # what is done is kept, and only what is missing is done again
    again, _ = run("flow_dpo:wan2_1_1_3b", workdir, pipeline, EXAMPLE, *given)
    assert all(reused(again).values())
    (trained,) = (f.path for f in done.stages if f.stage.name.startswith("align-"))
    (trained / "done.json").unlink()
    again, _ = run("flow_dpo:wan2_1_1_3b", workdir, pipeline, EXAMPLE, *given)
    assert [stage for stage, kept in reused(again).items() if not kept] == ["align-flow_dpo-round1"]
    assert [line["loss"] for line in read_metrics(trained)] == [line["loss"] for line in metrics]

    # diffusers computes what the policy does, from either export
    recipe, policies = rounds.open_finished(workdir, prompted.MESH)
    wanted = ours(recipe, policies["flow_dpo"])
    exports = {form: tmp_path / form for form in ("peft", "diffusers")}
    for form, out in exports.items():
        launch("export_torch", f"--workdir={workdir}", f"--format={form}", f"--out={out}")
        card = (out / "README.md").read_text()
        assert "flow_dpo:wan2_1_1_3b" in card
        assert "rank 4" in card
    pipe = diffusers.WanPipeline.from_pretrained(pipeline)
    assert relative_error(of_wan(pipe), wanted) > 0.01
    pipe.load_lora_weights(exports["peft"])
    assert relative_error(of_wan(pipe), wanted) < TOLERANCE
    whole = diffusers.WanPipeline.from_pretrained(exports["diffusers"])
    assert relative_error(of_wan(whole), wanted) < TOLERANCE

    clip = tmp_path / "drawn.mp4"
    launch("sample", f"--workdir={workdir}", "--prompt=a red circle moves", f"--out={clip}")
    info = probe(clip)
    assert (info.frames, info.height, info.width, info.fps) == (9, 32, 48, 8.0)


def test_realdpo_of_cogvideox_image_to_video(tmp_path):
    pipeline, workdir, data = (tmp_path / name for name in ("cogvideox", "run", "data"))
    tiny_cogvideox(pipeline, image_to_video=True)
    prompts = [f"the blue square {i}" for i in range(2)]
    for i in range(2):
        write_video(data / f"videos/{i}.mp4", i)
        for k in range(3):
            write_video(data / f"negative_samples/{i}/{k}.mp4", 10 + 3 * i + k)
    (data / "video.txt").write_text("\n".join(f"videos/{i}.mp4" for i in range(2)))
    (data / "prompt.txt").write_text("\n".join(prompts))
    done, page = run("realdpo:cogvideox_5b_i2v", workdir, pipeline, data)
    check_videos(workdir, page, ("pretrained", "realdpo"), prompts)
    metrics = check_training(done, "realdpo")
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    account = json.loads((aligned(done) / "pairs.json").read_text())
    assert (account["rows"], account["unused"]) == (2, 0)

    recipe, policies = rounds.open_finished(workdir, prompted.MESH)
    image = rng.normal(size=X.shape).astype(np.float32)
    wanted = ours(recipe, policies["realdpo"], image)
    out = tmp_path / "aligned"
    launch("export_torch", f"--workdir={workdir}", f"--out={out}")

    def theirs(path):
        pipe = diffusers.CogVideoXImageToVideoPipeline.from_pretrained(path)
        x = np.concatenate([X, image], -1).transpose(0, 1, 4, 2, 3)
        t, h, w = GRID
        rotary = pipe._prepare_rotary_positional_embeddings(8 * h, 8 * w, t, "cpu")
        with torch.no_grad():
            return pipe.transformer(
                torch.from_numpy(x),
                torch.from_numpy(TEXT),
                torch.from_numpy(STEPS),
                image_rotary_emb=rotary,
            ).sample.numpy().transpose(0, 1, 3, 4, 2)  # fmt: skip

    assert relative_error(theirs(out), wanted) < TOLERANCE
    assert relative_error(theirs(pipeline), wanted) > 0.01

    # a prompt of one's own starts from the first frame of the nearest clip of the data
    clip = tmp_path / "drawn.mp4"
    said = launch("sample", f"--workdir={workdir}", "--prompt=blue square 1", f"--out={clip}")
    assert "from the first frame of scene prompt-1 (the blue square 1)" in said
    info = probe(clip)
    assert (info.frames, info.height, info.width) == (9, 32, 48)


def write_lines(data, sizes):
    """Six pairs with motion scores; (h, w) of the videos of each in turn."""
    lines = []
    for i in range(6):
        height, width = sizes[i % len(sizes)]
        for k, side in enumerate("ab"):
            write_video(data / f"{i}{side}.mp4", 2 * i + k, height, width)
        line = {"prompt": f"a red circle moves {i}", "verdict": "AB"[i % 2]}
        for k, side in enumerate("ab"):
            line[f"clip_{side}"] = f"{i}{side}.mp4"
            line[f"scores_{side}"] = {"object_motion": float(i + k), "camera_motion": 0.5 * k}
        lines.append(json.dumps(line))
    (data / "pairs.jsonl").write_text("\n".join(lines))
    return data / "pairs.jsonl"


def test_ipo_kto_of_cogvideox_with_real_clips(tmp_path):
    pipeline, workdir, real = (tmp_path / name for name in ("cogvideox", "run", "real"))
    tiny_cogvideox(pipeline)
    pairs = write_lines(tmp_path / "data", [(40, 56)])
    for i in range(3):
        write_video(real / "videos" / f"{i}.mp4", 50 + i)
    rows = [f"{i}.mp4,a real circle {i}" for i in range(3)]
    (real / "captions.csv").write_text("\n".join(["file,caption", *rows]))
    given = (f"data.real={real}", "align.real_weight=0.1")
    done, page = run("ipo_kto:cogvideox_2b", workdir, pipeline, pairs, *given)
    assert len(done.recipe.inputs.data.prompts) == 9
    metrics = check_training(done, "ipo_kto")
    assert metrics[0]["loss"] == pytest.approx(0.5 + 0.1 * metrics[0]["error_real"], abs=1e-5)
    account = json.loads((aligned(done) / "pairs.json").read_text())
    assert (account["positive"], account["negative"], account["unlabelled"]) == (6, 6, 3)
    assert page.count("<video") == 4


@pytest.mark.slow
def test_flow_dpo_of_wan_image_to_video(tmp_path):
    pipeline, workdir, data = (tmp_path / name for name in ("wan", "run", "data"))
    tiny_wan(pipeline, image_to_video=True)
    pairs = write_lines(data, [(32, 48)])
    # diffusers takes the last 512 states for text
    given = ("align.lora.rank=4", "text.length=512")
    done, page = run("flow_dpo:wan2_1_i2v_14b", workdir, pipeline, pairs, *given)
    assert page.count("<video") == 4
    metrics = check_training(done, "flow_dpo")
    assert metrics[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)

    # the same clip from the run and, in diffusers, from what it exported
    whole, picture, clip = tmp_path / "whole", tmp_path / "frame.png", tmp_path / "drawn.mp4"
    PIL.Image.fromarray(rng.integers(256, size=(32, 48, 3), dtype=np.uint8)).save(picture)
    noise = rng.normal(size=(1, LATENT_CHANNELS, *GRID)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    launch("export_torch", f"--workdir={workdir}", f"--out={whole}")
    launch(
        "sample",
        f"--workdir={workdir}",
        "--prompt=a red circle moves",
        f"--image={picture}",
        f"--init_noise={tmp_path / 'noise.npy'}",
        f"--save_latents={tmp_path / 'latents.npy'}",
        f"--out={clip}",
    )
    info = probe(clip)
    assert (info.frames, info.height, info.width) == (9, 32, 48)
    drawn = np.load(tmp_path / "latents.npy")
    call = {
        "image": PIL.Image.open(picture),
        "prompt": "a red circle moves",
        "latents": torch.from_numpy(noise),
        "num_inference_steps": 2,
        "output_type": "latent",
        **{"num_frames": 9, "height": 32, "width": 48},
    }
    theirs = diffusers.WanImageToVideoPipeline.from_pretrained(whole)(**call).frames
    assert relative_error(drawn, theirs.numpy()) < TOLERANCE
    before = diffusers.WanImageToVideoPipeline.from_pretrained(pipeline)(**call).frames
    assert relative_error(before.numpy(), theirs.numpy()) > 0.01


@pytest.mark.slow
def test_mcdpo_of_wan_in_two_buckets(tmp_path, capfd):
    pipeline, workdir = tmp_path / "wan", tmp_path / "run"
    tiny_wan(pipeline)
    pairs = write_lines(tmp_path / "data", [(40, 56), (56, 40)])
    buckets = "data.buckets=((32,48),(48,32))"
    done, _ = run("mcdpo:wan2_1_1_3b", workdir, pipeline, pairs, buckets)
    check_training(done, "mcdpo")
    rows = done.recipe.inputs.encoded
    assert np.bincount(rows.shapes).tolist() == [6, 6]
    shapes = {rows.records[i]["latent"].shape for i in range(12)}
    assert shapes == {(3, 4, 6, LATENT_CHANNELS), (3, 6, 4, LATENT_CHANNELS)}
    assert (aligned(done) / "params").is_dir()
    assert not (aligned(done) / "adapters").exists()

    # a comparison takes over what is done, and needs no judge
    given = [f"model.init={pipeline}", f"data.pairs={pairs}", *TINY, buckets]
    configs = compare.load_configs(["mcdpo"], "wan2_1_1_3b", given)
    capfd.readouterr()
    found = compare.compare(configs, workdir, seeds=1, rounds=1)
    assert "".join(capfd.readouterr()) == f"[{len(done.stages)} stages kept]\n"
    assert found.frame is None
    report.write_comparison_report(found, configs, workdir, command="test")
    assert pd.read_csv(workdir / "training.csv")["Method"].tolist() == ["mcdpo"]
    assert "mcdpo" in report.comparison_summary(found, workdir)
