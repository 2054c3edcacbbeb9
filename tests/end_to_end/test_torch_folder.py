"""Policies of runs in PyTorch: the exported program draws the clips that we draw."""

import dataclasses
import functools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.end_to_end.test_prompted import SUPERRES
from tests.end_to_end.tiny import TINY, TINY_FLOW
from tests.torch_alone import PROGRAM, draw_with_torch_alone, import_program
from vidpref.generation.adopt import load_config
from vidpref.models.lora import merge_into
from vidpref.runs import report, rounds
from vidpref.runs.export import export_policy
from vidpref.runs.graph import in_order, run_stage
from vidpref.runs.methods import open_recipe
from vidpref.runs.prompt_scenes import borrow_first_frames
from vidpref.runs.prompted import MESH, draw, open_policy
from vidpref.training.tuning import lora_spec

ROOT = Path(__file__).resolve().parents[2]
ONE_DEVICE = ("mesh.data=1", "mesh.fsdp=-1")  # the mesh of `draw`
NOISE = np.random.default_rng(0).normal(size=(1, 3, 8, 16, 16)).astype(np.float32)


def draw_ours(recipe, policy):
    """Returns the clip of the first held-out scene, and its prompt."""
    scene = recipe.inputs.data.scenes("test")[0]
    scenes = borrow_first_frames([scene.text], [scene])
    noise = np.moveaxis(NOISE, 1, -1)
    [(_, clip, _)] = draw(open_policy(recipe, policy), scenes, seed=0, noise=noise)
    return clip.astype(int), scene.text


def draw_theirs(folder, prompt):
    flags = (f"--prompt={prompt}", "--image=example.npy")
    return draw_with_torch_alone(folder, *flags, noise=NOISE).astype(int)


def random_policy(recipe):
    """The pre-trained policy as if it were trained: random parameters, with adapters merged."""
    spec = lora_spec(recipe.config.align)

    def load():
        boxed = jax.eval_shape(recipe.generator.init, jax.random.key(0))
        shapes = boxed, jax.eval_shape(functools.partial(spec.init, base=boxed), jax.random.key(0))
        rng = np.random.default_rng(0)
        base, adapters = jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.2, x.dtype), nn.unbox(shapes)
        )
        merged = merge_into(base, adapters, spec)
        return jax.device_put(merged, NamedSharding(recipe.mesh, PartitionSpec()))

    return dataclasses.replace(recipe.pretrained, load=load, load_generator=load)


def test_a_policy_with_merged_adapters_draws_the_same_clip(tmp_path):
    fields = ("align.lora.rank=2", "align.lora.alpha=4", "sampler.guidance_scale=2.0")
    recipe = open_recipe(
        load_config("dpo_aif:mini", [*TINY, *fields, *ONE_DEVICE]), tmp_path / "run"
    )
    for stage in in_order([recipe.inputs.data_stage, recipe.inputs.text_stage]):
        run_stage(stage, recipe.workdir, lambda state: None)
    policy = random_policy(recipe)
    out, stage = tmp_path / "out", policy.stages["policy"].folder
    policies = {"pretrained": policy}
    said = export_policy(recipe, policies, "pretrained", out=out, form="", dtype="float32")
    assert said == f"pretrained, of stage {stage}, as torch"
    assert json.loads((out / "config.json").read_text())["stage"] == stage
    files = ["README.md", "config.json", "example.npy", "example.png", "generator.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == [*files, PROGRAM]
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o644}

    ours, prompt = draw_ours(recipe, policy)
    difference = np.abs(draw_theirs(out, prompt) - ours).max()
    assert difference <= 1  # of 255 levels, where rounding falls the other way
    assert np.abs(ours - ours[:1]).max() > 20  # it does move
    command = (out / PROGRAM).read_text().splitlines()[2].strip()
    assert f"\n{command}\n" in (out / "README.md").read_text()
    assert command == f"python {PROGRAM} --prompt='{prompt}' --image=example.png --out=clip.gif"

    for form, sentence in (
        ("peft", "--format=torch writes it as one PyTorch file"),
        ("diffusers", "a unet3d generator has no counterpart in diffusers"),
        ("onnx", "known are diffusers, peft, torch"),
    ):
        with pytest.raises(ValueError, match=sentence):
            export_policy(recipe, policies, "pretrained", out=out, form=form, dtype="float32")


def test_pipelines_leave_as_pipelines(tmp_path):
    recipe = open_recipe(load_config("flow_dpo:wan2_1_1_3b"), tmp_path)
    sentence = "a wan generator leaves for PyTorch with --format=diffusers .* or --format=peft"
    with pytest.raises(ValueError, match=sentence):
        export_policy(recipe, {}, "x", out=tmp_path / "out", form="torch", dtype="float32")


@pytest.mark.slow
def test_text_states_of_an_encoder_are_the_example(tmp_path):
    recipe = open_recipe(load_config("dpo_aif:mini", [*TINY, *ONE_DEVICE]), tmp_path / "run")
    for stage in in_order([recipe.inputs.data_stage, recipe.inputs.text_stage]):
        run_stage(stage, recipe.workdir, lambda state: None)
    with recipe.config.unlocked():
        recipe.config.align.lora.rank = 2
        recipe.config.text.name = "t5"  # as if these states were of one
    out, policy = tmp_path / "out", random_policy(recipe)
    export_policy(recipe, {"p": policy}, "p", out=out, form="torch", dtype="bfloat16")
    command = (out / PROGRAM).read_text().splitlines()[2].strip()
    assert "--text_states=example_text.npy --image=example.png" in command
    generator = import_program(out).VideoGenerator.load(out)
    with pytest.raises(ValueError, match="reads t5 states of width 8, of 12 tokens"):
        generator.draw(["a ball"])
    flags = ("--text_states=example_text.npy", "--image=example.npy")
    assert draw_with_torch_alone(out, *flags, noise=NOISE).shape == (8, 16, 16, 3)


def export_program(*argv):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, ROOT / "launch/export_torch.py", *argv],
        env=environment | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("dpo_aif", (*TINY, "align.pairs=best_worst")),
        ("dpo_aif", (*TINY, "align.pairs=best_worst", "align.lora.rank=2")),
        ("sft_aif", (*TINY, *SUPERRES)),
        ("flow_dpo", TINY_FLOW),
        ("flow_dpo", (*TINY_FLOW, "model.name=dit", "sampler.name=unipc")),
    ],
    ids=("full", "lora", "cascade", "flow", "unipc"),
)
def test_finished_runs(name, overrides, tmp_path, graded):
    done = rounds.run(load_config(f"{name}:mini", overrides), tmp_path / "run")
    report.write_run_report(done, command="test")
    recipe, policies = rounds.open_finished(tmp_path / "run", MESH)
    for policy in policies.values():
        out = tmp_path / policy.name
        said = export_program(
            f"--workdir={tmp_path / 'run'}", f"--policy={policy.name}", f"--out={out}"
        )
        stage = policy.stages["policy"].folder
        assert said.stdout.splitlines()[-2:] == [
            f"policy: {policy.name}, of stage {stage}, as torch",
            f"exported: {out}",
        ], said.stderr
        if recipe.config.superres.enabled:  # its noise is not ours to give to the program
            assert (out / "superres.safetensors").exists()
            continue
        ours, prompt = draw_ours(recipe, policy)
        assert np.abs(draw_theirs(out, prompt) - ours).max() <= 1


@pytest.mark.slow
def test_a_guided_policy_is_refused(tmp_path, graded):
    fields = (*TINY_FLOW, "align.layers=1")
    done = rounds.run(load_config("flow_nrg:mini", fields), tmp_path / "run")
    report.write_run_report(done, command="test")
    said = export_program(f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'out'}")
    assert "--policy=pretrained writes the generator alone" in said.stderr
    assert not (tmp_path / "out").exists()
