"""Qwen-VL in and out of the folders of transformers."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from tests.models.qwen_vl_examples import CLASSES, CONFIGS, original
from tests.models.torch_parity import state_dict
from vidpref.interop.qwen_vl import NEW, OLD, qwen_vl_table, spelling_of
from vidpref.interop.qwen_vl_folders import QwenVLFolder, export_qwen_vl
from vidpref.interop.safetensors_files import TensorFolder, write_tensors
from vidpref.interop.table import to_params, to_tensors
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.packing import smallest
from vidpref.models.qwen_vl.sizes import PUBLISHED


def target(module):
    shapes = jax.eval_shape(module.init, jax.random.key(0), smallest(module.config))["params"]
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=device),
        jax.tree.map(lambda x: x.value, shapes, is_leaf=lambda x: hasattr(x, "names")),
    )


@pytest.fixture(scope="module", params=CONFIGS)
def saved(request, tmp_path_factory):
    """A model of transformers, and the folder that it saved itself to."""
    model = original(request.param)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return model, folder


def equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_both_spellings_are_read_and_what_is_written_transformers_loads(saved, tmp_path):
    model, folder = saved
    source = QwenVLFolder(folder)
    module = source.module()
    params = source.load(module, target(module))
    names = state_dict(model)
    if module.config.text.tie_word_embeddings:
        del names["lm_head.weight"]
    equal(params, to_params(names, qwen_vl_table(module, NEW)))
    written = spelling_of(TensorFolder(folder).shapes)
    assert written == (NEW if module.config.family == "qwen3_vl" else OLD)

    out = tmp_path / "out"
    export_qwen_vl(out, module, params, source=folder, dtype="float32", max_shard_bytes=20_000)
    assert (out / "tokenizer.json").read_text() == "{}"
    assert len(list(out.glob("model-*.safetensors"))) > 1
    loaded, info = CLASSES[module.config.family][1].from_pretrained(out, output_loading_info=True)
    assert not any(info[problem] for problem in info), info
    for name, tensor in loaded.state_dict().items():
        np.testing.assert_array_equal(tensor, model.state_dict()[name])
    again = QwenVLFolder(out)
    equal(again.load(module, target(module)), params)


def test_without_a_source_the_config_is_written(saved, tmp_path):
    _, folder = saved
    source = QwenVLFolder(folder)
    module = source.module()
    params = source.load(module, target(module))
    export_qwen_vl(tmp_path / "out", module, params)
    assert QwenVLFolder(tmp_path / "out").config == source.config
    auto = transformers.AutoModelForImageTextToText
    loaded, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[problem] for problem in info), info
    assert type(loaded) is CLASSES[module.config.family][1]
    assert loaded.dtype == torch.bfloat16


def test_a_tied_head_in_the_file_does_not_count(tmp_path):
    model = original("qwen2_vl")
    module = QwenVLFolder(_saved(model, tmp_path)).module()
    tensors = state_dict(model)  # has lm_head.weight, the same tensor
    table = qwen_vl_table(module, NEW)
    other = {**tensors, "lm_head.weight": tensors["lm_head.weight"] + 1}
    equal(to_params(tensors, table), to_params(other, table))
    assert "lm_head.weight" not in to_tensors(to_params(tensors, table), table)


def _saved(model, folder):
    model.save_pretrained(folder)
    return folder


def test_missing_and_foreign_tensors_are_named(saved, tmp_path):
    _, folder = saved
    tensors = dict(TensorFolder(folder))
    lacking = "model.norm.weight" if "model.norm.weight" in tensors else "visual.merger.norm.weight"
    lacking = next(name for name in tensors if name.endswith(lacking.split(".", 1)[1]))
    bad = tmp_path / "bad"
    write_tensors(bad, {n: x for n, x in tensors.items() if n != lacking} | {"x.y": np.ones(2)})
    shutil.copy(folder / "config.json", bad)
    module = QwenVLFolder(bad).module()
    with pytest.raises(ValueError, match=r"(?s)missing \(1\): .*extra \(1\): x\.y") as error:
        QwenVLFolder(bad).load(module, target(module))
    assert lacking in str(error.value)


def test_folders_of_other_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        QwenVLFolder(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(ValueError, match=r"model_type='llava'.* known are qwen2_vl"):
        QwenVLFolder(tmp_path)
    with pytest.raises(ValueError, match=r"names that begin with model\. .*found a\.b"):
        spelling_of(["a.b"])


@pytest.mark.parametrize("family", CONFIGS)
def test_the_config_survives_both_forms_of_transformers(family):
    config = CLASSES[family][0](**CONFIGS[family])
    read = QwenVLConfig.read(config.to_dict())
    assert QwenVLConfig.read(read.write()) == read
    again = CLASSES[family][0](**read.write())
    for part in ("text_config", "vision_config"):
        assert getattr(again, part).to_dict() == getattr(config, part).to_dict()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Qwen2-VL-2B", {"hidden_size": None}, "lacks hidden_size of the text model"),
        ("Qwen2-VL-2B", {"use_sliding_window": True}, "use_sliding_window=True"),
        ("Qwen2-VL-2B", {"num_attention_heads": 7}, "must divide hidden_size=1536"),
        ("Qwen2-VL-2B", {"vision_config": 3}, "has vision_config=3"),
        ("Qwen2-VL-2B", {"rope_scaling": {"type": "yarn"}}, "'yarn' are not implemented"),
        ("Qwen2-VL-2B", {"vision_config": {"hidden_size": 2048}}, "2048, the decoder has 1536"),
        ("Qwen2.5-VL-3B", {"rope_scaling": {"mrope_section": [1, 2, 3]}}, "half of the 128"),
        ("Qwen3-VL-2B", {"tie_word_embeddings": "no"}, "must be true or false"),
    ],
)
def test_configs_that_ask_for_something_else_are_refused(name, change, message):
    fields = {**PUBLISHED[name], **change}
    with pytest.raises(ValueError, match=message):
        QwenVLConfig.read(fields)
