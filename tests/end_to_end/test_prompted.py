"""Clips for one's own prompts from runs whose clips go through more than one network."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tests.end_to_end.tiny import TINY, TINY_FLOW
from vidpref.datasets.video import decode_clip
from vidpref.generation.adopt import load_config
from vidpref.runs import report, rounds
from vidpref.runs.prompt_scenes import (
    borrow_first_frames,
    nearest_scene,
    scene_by_id,
)
from vidpref.runs.prompted import MESH, draw, open_policy
from vidpref.seeds import fold_seed
from vidpref.stages.sample import read_clips

ROOT = Path(__file__).resolve().parents[2]
SUPERRES = (
    "superres.enabled=True",
    "superres.model.unet3d.features=(32,)",
    "superres.model.unet3d.blocks=(1,)",
    "superres.model.unet3d.spatial=(False,)",
    "superres.model.unet3d.temporal=(True,)",
    "superres.model.unet3d.cross=(True,)",
    "superres.train.optimizer.name=adam",
    "superres.train.steps=2",
    "superres.train.batch_size=8",
    "superres.sampler_steps=2",
)


def run(name, workdir, *overrides):
    done = rounds.run(load_config(f"{name}:mini", overrides), workdir)
    report.write_run_report(done, command="test")
    return done


def held_out(recipe, count):
    return recipe.inputs.data.scenes("test")[:count]


def drawn(source, scenes, seed=0, **fields):
    return [clip for _, clip, _ in draw(source, scenes, seed=seed, **fields)]


def test_a_cascade_draws_what_its_run_drew(tmp_path, fickle):
    """The scenes of the run itself, with their ids, have the noise of the run."""
    done = run("sft_aif", tmp_path, *TINY, *SUPERRES)
    records = read_clips(done.evaluated["sft"].samples)
    wanted = [r for r in (records[i] for i in range(len(records))) if r["sample"] == 0][:3]
    recipe, policies = rounds.open_finished(tmp_path, MESH)
    source = open_policy(recipe, policies["sft"])
    data = recipe.inputs.data
    scenes = [scene_by_id(data, record["scene_id"]) for record in wanted]
    clips = drawn(source, scenes, seed=fold_seed(recipe.config.seed, "evaluation"))
    for clip, record in zip(clips, wanted, strict=True):
        assert clip.shape == record["video_high"].shape == (8, 32, 32, 3)
        # other devices than the run's may round a level the other way
        assert np.abs(clip.astype(int) - record["video_high"]).max() <= 1

    # the program finds a first frame, says whose, and another on request
    asked = scenes[0].text
    out = sample_program(tmp_path, f"--prompt={asked}", f"--out={tmp_path / 'clip.mp4'}")
    nearest = nearest_scene(data, asked)
    assert f"from the first frame of scene {nearest.id} ({nearest.text})" in out.stderr
    assert decode_clip(tmp_path / "clip.mp4", frames=8, height=32, width=32).shape == (8, 32, 32, 3)
    other = data.scenes("train")[0]
    out = sample_program(tmp_path, "--prompt=x", f"--scene={other.id}", "--out=other.mp4")
    assert f"x: from the first frame of scene {other.id} ({other.text})" in out.stderr
    out = sample_program(tmp_path, "--prompt=x", f"--scene={other.id}0", "--out=x.mp4")
    assert f"the run's data has no scene '{other.id}0'; did you mean" in out.stderr
    assert not (tmp_path / "x.mp4").exists()


def sample_program(workdir, *argv):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch/sample.py"), f"--workdir={workdir}", *argv],
        cwd=workdir,
        env=environment | quick,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_guided_policy_is_guided(tmp_path, graded):
    run("flow_nrg", tmp_path, *TINY_FLOW, "align.layers=1", "align.scale=100")
    recipe, policies = rounds.open_finished(tmp_path, MESH)
    scenes = borrow_first_frames(["a ball", "a cube"], held_out(recipe, 2))
    plain, guided = (open_policy(recipe, policies[name]) for name in ("pretrained", "flow_nrg"))
    with guided.cascade.loaded() as ((network, reward),):
        # clips of an untrained policy are alike, so its reward has learnt nothing
        rng = np.random.default_rng(0)
        strict = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), reward)
        silent = jax.tree.map(jnp.zeros_like, reward)

    def with_reward(params):
        cascade = guided.cascade.with_params((network, params))
        return drawn(dataclasses.replace(guided, cascade=cascade), scenes)

    unguided = drawn(plain, scenes)
    assert [clip.shape for clip in unguided] == [(8, 16, 16, 3)] * 2
    for clip, same, other in zip(unguided, with_reward(silent), with_reward(strict), strict=True):
        np.testing.assert_array_equal(same, clip)
        assert np.abs(other.astype(int) - clip).max() > 10
