"""LoRA of Qwen-VL between PEFT and us, in old and new names."""

import json

import flax.linen as nn
import jax
import numpy as np
import peft
import pytest
import safetensors.numpy
import torch

from tests.models.qwen_vl_examples import batch, original, their_inputs
from tests.models.torch_parity import relative_error, state_dict
from vidpref.interop.lora.peft_folders import export_peft
from vidpref.interop.lora.reading import read_adapters
from vidpref.interop.qwen_vl import NEW, adaptable, qwen_vl_table
from vidpref.interop.table import to_params
from vidpref.models.lora import LoRA, with_lora
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import pack, smallest

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LAYERS = ["q_proj", "v_proj", "down_proj", "qkv", "merger.mlp.0"]


@pytest.fixture(scope="module")
def base():
    """Our network, its parameters, and their shapes."""
    model = original("qwen2_vl")
    module = QwenVL.from_config(model.config.to_dict())
    tensors = state_dict(model)
    del tensors["lm_head.weight"]
    params = to_params(tensors, qwen_vl_table(module, NEW))
    boxed = jax.eval_shape(module.init, jax.random.key(0), smallest(module.config))["params"]
    return module, params, boxed


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of PEFT with adapters that do something, and the folder it saved them to."""
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=LAYERS, rank_pattern={"v_proj": 2})
    model = peft.get_peft_model(original("qwen2_vl"), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                tensor.copy_(0.2 * torch.randn(tensor.shape))
    folder = tmp_path_factory.mktemp("lora")
    model.save_pretrained(folder)
    return model.eval(), folder


def _renamed(folder, out, rename):
    """A copy of an adapter's folder with other names of tensors."""
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    out.mkdir()
    safetensors.numpy.save_file({rename(n): x for n, x in tensors.items()}, out / WEIGHTS)
    (out / CONFIG).write_text((folder / CONFIG).read_text())
    return out


def _old(name: str) -> str:
    return name.replace("model.model.language_model.", "model.model.").replace(
        "model.model.visual.", "model.visual."
    )


def test_adapters_of_peft_compute_the_same_by_both_names(base, trained, tmp_path):
    module, params, boxed = base
    model, folder = trained
    adapters, spec = read_adapters(folder, adaptable(module), boxed)
    old = _renamed(folder, tmp_path / "old", _old)
    assert any(".model.layers.0." in name for name in safetensors.numpy.load_file(old / WEIGHTS))
    same, again = read_adapters(old, adaptable(module), boxed)
    assert again == spec
    jax.tree.map(np.testing.assert_array_equal, same, adapters)
    rows = batch("qwen2_vl", "mixed")
    inputs = pack(rows, module.config)
    options = {"xla_backend_optimization_level": 0}  # compiling is nearly all of the time
    run = jax.jit(with_lora(module.apply, spec), compiler_options=options)
    ours = np.asarray(run({"params": params}, adapters, inputs))[inputs.mask]
    with torch.no_grad():
        theirs = model(**their_inputs(rows, inputs)).logits.numpy()[inputs.mask]
        plain = original("qwen2_vl")(**their_inputs(rows, inputs)).logits.numpy()[inputs.mask]
    error = relative_error(ours, theirs)
    print(f"\nforward {error:.1e}, of the base {relative_error(plain, theirs):.1e}")
    assert error < 1e-4
    assert relative_error(plain, theirs) > 0.05


def test_what_we_write_peft_loads_and_we_read(base, tmp_path):
    module, _, boxed = base
    spec = LoRA(2, 8.0, ("text/blocks/(query|up|out)/", "vision/blocks/qkv/", "merger/mlp_in/"))
    rng = np.random.default_rng(0)
    adapters = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32),
        nn.unbox(jax.eval_shape(lambda key: spec.init(key, boxed), jax.random.key(0))),
    )
    out = tmp_path / "lora"
    export_peft(out, qwen_vl_table(module, NEW), adapters, spec, base="some/model")
    loaded = peft.PeftModel.from_pretrained(original("qwen2_vl"), out)
    name = "base_model.model.model.language_model.layers.1.mlp.up_proj"
    tensors = loaded.state_dict()
    up = adapters["text"]["blocks"]["up"]
    np.testing.assert_array_equal(tensors[f"{name}.lora_A.default.weight"], up["a"][1].T)
    np.testing.assert_array_equal(tensors[f"{name}.lora_B.default.weight"], up["b"][1].T)
    written = safetensors.numpy.load_file(out / WEIGHTS)
    assert sum("lora_" in name for name in tensors) == len(written) == 2 * (3 * 2 + 2 + 1)
    assert loaded.peft_config["default"].lora_alpha == 8
    assert loaded.peft_config["default"].base_model_name_or_path == "some/model"
    read, again = read_adapters(out, adaptable(module), boxed)
    assert again.scale == spec.scale
    jax.tree.map(np.testing.assert_array_equal, read, adapters)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base_model.model.model.language_model.layers.2.mlp.up_proj.lora_A.weight", "not have"),
        ("base_model.model.model.visual.blocks.9.attn.qkv.lora_A.weight", "does not have"),
        ("base_model.model.lm_head.weight", "no known kind of tensor"),
        ("base_model.model.model.visual.blocks.0.attn.qkv.diff", "whole difference"),
    ],
)
def test_a_tensor_that_is_left_over_is_refused(base, trained, tmp_path, name, message):
    module, _, boxed = base
    _, folder = trained
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    tensors[name] = np.ones((3, 32), np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text())))
    with pytest.raises(ValueError, match=message) as error:
        read_adapters(tmp_path, adaptable(module), boxed)
    assert "Qwen-VL" in str(error.value)
