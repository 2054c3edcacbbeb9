"""Runs that start from a LoRA file of another program, and rounds of adapters, out to diffusers."""

import diffusers
import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.end_to_end.tiny import TINY_WAN, few_preferences
from tests.models.torch_parity import relative_error
from tests.tiny_pipelines import LATENT_CHANNELS, TEXT_DIM, tiny_wan
from vidpref.generation.adopt import load_config
from vidpref.models.condition import Condition
from vidpref.runs import export, rounds
from vidpref.training.metrics import read_metrics

GRID = (3, 4, 6)
STEPS = np.array([36, 999])
# Layers of the file in the authors' names, with the rank of each: of the second block alone.
RANKS = {"blocks.1.self_attn.q": 2, "blocks.1.ffn.0": 5, "blocks.1.cross_attn.k": 1}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A pipeline, a LoRA of it from elsewhere, and preferences between two videos."""
    folder = tmp_path_factory.mktemp("sources")
    transformer = tiny_wan(folder / "wan").transformer
    rng, tensors = np.random.default_rng(0), {}
    inner = {"blocks.1.ffn.0": (40, 24)}
    for layer, rank in RANKS.items():
        out, into = inner.get(layer, (24, 24))
        for name, shape in (("down", (rank, into)), ("up", (out, rank))):
            values = 0.3 * rng.normal(size=shape).astype(np.float32)
            tensors[f"diffusion_model.{layer}.lora_{name}.weight"] = values
        tensors[f"diffusion_model.{layer}.alpha"] = np.array(1.5, np.float32)
        tensors[f"diffusion_model.{layer}.diff_b"] = rng.normal(size=out).astype(np.float32)
    safetensors.numpy.save_file(tensors, folder / "style.safetensors")
    few_preferences(folder)
    assert transformer.config.num_layers == 2
    return folder


def run(sources, workdir, *overrides):
    given = [f"model.init={sources / 'wan'}", f"data.pairs={sources / 'pairs.csv'}", *TINY_WAN]
    return rounds.run(load_config("flow_dpo:wan2_1_1_3b", [*given, *overrides]), workdir)


rng = np.random.default_rng(1)
X = rng.normal(size=(2, *GRID, LATENT_CHANNELS)).astype(np.float32)
TEXT = rng.normal(size=(2, 16, TEXT_DIM)).astype(np.float32)


def ours(recipe, policy):
    condition = Condition(text=TEXT, text_mask=np.ones(TEXT.shape[:2], bool))
    apply = jax.jit(recipe.generator.apply, compiler_options={"xla_backend_optimization_level": 0})
    return np.asarray(apply(policy.load(), X, np.float32((STEPS + 1) / 1000), condition))


def theirs(sources, lora=None):
    pipe = diffusers.WanPipeline.from_pretrained(sources / "wan")
    if lora is not None:
        pipe.load_lora_weights(lora)
    x, text = torch.from_numpy(X.transpose(0, 4, 1, 2, 3)), torch.from_numpy(TEXT)
    with torch.no_grad():
        out = pipe.transformer(x, torch.from_numpy(STEPS + 1).float(), text).sample
    return out.numpy().transpose(0, 2, 3, 4, 1)


def exported(done, out, name):
    recipe, policies = done.recipe, done.recipe.policies(2)
    export.export_policy(recipe, policies, name, out=out, form="peft", dtype="float32")
    (file,) = out.glob("*.safetensors")
    ranks = {
        key.removeprefix("transformer.").removesuffix(".lora_A.weight"): len(tensor)
        for key, tensor in safetensors.numpy.load_file(file).items()
        if key.endswith("lora_A.weight")
    }
    return ours(recipe, policies[name]), ranks


def check_start(workdir):
    """The policy starts at its reference: the loss is that of no preference."""
    for folder in sorted(workdir.glob("align-*")):
        first, *_, last = (line["loss"] for line in read_metrics(folder))
        assert first == pytest.approx(np.log(2), abs=1e-5)
        assert last != first


@pytest.mark.slow
def test_a_lora_of_another_program_is_trained_on(sources, tmp_path):
    """With its own layers and ranks; two rounds, of which the second goes on with the first's."""
    lora = sources / "style.safetensors"
    done = run(sources, tmp_path / "run", f"model.lora={lora}", "rounds=2")
    check_start(tmp_path / "run")
    pretrained, _ = exported(done, tmp_path / "first", "pretrained")
    assert relative_error(pretrained, theirs(sources)) > 0.01
    assert relative_error(pretrained, theirs(sources, lora)) < 1e-5
    assert relative_error(pretrained, theirs(sources, tmp_path / "first")) < 1e-5
    wanted = {"blocks.1.attn1.to_q": 2, "blocks.1.ffn.net.0.proj": 5, "blocks.1.attn2.to_k": 1}
    before = pretrained
    for name in ("flow_dpo", "flow_dpo_round2"):
        trained, ranks = exported(done, tmp_path / name, name)
        assert ranks == wanted
        assert relative_error(before, trained) > 1e-3
        assert relative_error(trained, theirs(sources, tmp_path / name)) < 1e-5
        before = trained


@pytest.mark.slow
def test_rounds_beside_a_lora_leave_as_one_file(sources, tmp_path):
    """The file's ranks, and those of two rounds of new adapters, side by side."""
    lora = sources / "style.safetensors"
    new = ("align.lora.go_on=False", "align.lora.targets=('cross/(query|key)/',)")
    done = run(sources, tmp_path / "run", f"model.lora={lora}", *new, "rounds=2")
    check_start(tmp_path / "run")
    trained, ranks = exported(done, tmp_path / "out", "flow_dpo_round2")
    assert ranks["blocks.1.attn2.to_k"] == 1 + 3 + 3
    assert ranks["blocks.0.attn2.to_k"] == 3 + 3
    assert ranks["blocks.1.ffn.net.0.proj"] == 5
    assert relative_error(trained, theirs(sources, tmp_path / "out")) < 1e-5
    first, _ = exported(done, tmp_path / "first", "flow_dpo")
    assert relative_error(first, trained) > 1e-3
    assert relative_error(first, theirs(sources, tmp_path / "first")) < 1e-5


def test_a_bad_lora_is_refused_before_anything_is_done(sources, tmp_path):
    with pytest.raises(ValueError, match=r"config\.model\.lora: .*no such file"):
        run(sources, tmp_path, f"model.lora={tmp_path / 'none'}")
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"diffusion_model.blocks.0.ffn.0.lokr_w1": np.ones(1)}, other)
    with pytest.raises(ValueError, match=r"(?s)config\.model\.lora: .*LoKr"):
        run(sources, tmp_path, f"model.lora={other}")
    assert not any(tmp_path.glob("*/done.json"))
