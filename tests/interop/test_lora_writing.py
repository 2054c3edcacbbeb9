"""LoRA files: diffusers and PEFT load ours, we load theirs."""

import functools
import json

import flax.linen as nn
import jax
import numpy as np
import peft
import pytest
import safetensors.numpy
import torch
from diffusers.training_utils import _collate_lora_metadata
from flax.traverse_util import flatten_dict

from tests.interop.pipeline_pairs import MAKERS, make_pair
from tests.models.torch_parity import relative_error
from vidpref.interop.peft import FILE, export_lora, lora_tensors, read_lora
from vidpref.models.lora import LoRA, with_lora

TOLERANCE = 1e-4
ATTENTION = LoRA(2, 8.0, ("(self|cross)/(query|key|value|out)/",))  # of Wan


@pytest.fixture(params=MAKERS)
def kind(request):
    return request.param


@pytest.fixture
def pair(kind, tmp_path):
    return make_pair(kind, tmp_path / "source")


@pytest.fixture
def wan(tmp_path):
    return make_pair("wan", tmp_path / "source")


def random_adapters(spec: LoRA, shapes):
    rng = np.random.default_rng(5)
    return jax.tree.map(
        lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32),
        jax.eval_shape(functools.partial(spec.init, base=shapes), jax.random.key(0)),
    )


def outputs(pair, adapters, spec):
    # compiling is nearly all of the time
    options = {"xla_backend_optimization_level": 0}
    run = jax.jit(with_lora(pair.module.apply, spec), compiler_options=options)
    return run({"params": pair.load()}, nn.unbox(adapters), *pair.inputs)


def assert_equal(adapters, wanted):
    adapters, wanted = flatten_dict(adapters), flatten_dict(wanted)
    assert adapters.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(adapters[path], leaf, strict=True)


def test_diffusers_computes_what_we_compute(pair, kind, tmp_path):
    """Every linear layer of the network is adapted, at a scale other than 1."""
    spec = LoRA(3, 4.5, (".",))
    adapters = random_adapters(spec, pair.shapes())
    base = pair.theirs(pair.pipe.transformer)
    export_lora(tmp_path / "out", pair.folder.family, pair.module, adapters, spec)
    pair.pipe.load_lora_weights(tmp_path / "out")
    theirs = pair.theirs(pair.pipe.transformer)
    error = relative_error(outputs(pair, adapters, spec), theirs)
    print(f"\n{kind}: {error:.1e}")
    assert error < TOLERANCE
    assert relative_error(base, theirs) > 0.05

    read, again = read_lora(tmp_path / "out", pair.folder.family, pair.module, pair.shapes())
    assert_equal(read, nn.unbox(adapters))
    assert (again.rank, again.alpha, again.dropout) == (3, 4.5, 0.0)
    # the targets are those layers, of which training can go on
    fresh = jax.eval_shape(functools.partial(again.init, base=pair.shapes()), jax.random.key(0))
    assert flatten_dict(fresh).keys() == flatten_dict(adapters).keys()


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("kind", ["wan", "cogvideox"], indirect=True)
def test_reads_what_diffusers_writes(pair, tmp_path, metadata):
    transformer = pair.pipe.transformer
    alpha = 8 if metadata else 4  # without metadata diffusers takes the scale for 1
    config = peft.LoraConfig(r=4, lora_alpha=alpha, target_modules=["to_q", "to_out.0", "proj_out"])
    transformer.add_adapter(config)
    torch.manual_seed(0)
    layers = peft.get_peft_model_state_dict(transformer)
    for tensor in layers.values():
        tensor.copy_(0.3 * torch.randn(tensor.shape))
    peft.set_peft_model_state_dict(transformer, layers)
    extra = _collate_lora_metadata({"transformer": transformer}) if metadata else {}
    type(pair.pipe).save_lora_weights(tmp_path / "lora", layers, **extra)

    adapters, spec = read_lora(tmp_path / "lora", pair.folder.family, pair.module, pair.shapes())
    assert (spec.rank, spec.alpha) == (4, alpha)
    theirs = pair.theirs(transformer)
    assert relative_error(outputs(pair, adapters, spec), theirs) < TOLERANCE
    transformer.disable_adapters()
    assert relative_error(pair.theirs(transformer), theirs) > 0.05

    # the same names and values as PEFT writes
    table = pair.folder.family.transformer_table(pair.module)
    mine = lora_tensors(adapters, spec, table)
    file = safetensors.numpy.load_file(tmp_path / "lora" / FILE)
    assert mine.keys() == file.keys()
    for name, tensor in file.items():
        np.testing.assert_array_equal(mine[name], tensor, strict=True)


@pytest.fixture
def attention_lora(wan):
    """Tensors of a good file."""
    table = wan.folder.family.transformer_table(wan.module)
    return lora_tensors(random_adapters(ATTENTION, wan.shapes()), ATTENTION, table)


FIRST = "transformer.blocks.0.attn1.to_q.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t | {"transformer.blocks.0.attn1.to_q.alpha": t[FIRST]}, r"extra .*to_q\.alpha"),
        (lambda t: {n: x for n, x in t.items() if n != FIRST}, rf"missing \(1\): {FIRST}"),
        (lambda t: t | {FIRST: t[FIRST][:, 1:]}, rf"{FIRST} \(2, 23\), wanted \(2, 24\)"),
        (lambda t: t | {FIRST: t[FIRST][:1]}, rf"one rank, these have 1, e\.g\. {FIRST}; 2"),
        (lambda t: {n.replace("lora_A", "lora.down"): x for n, x in t.items()}, "no tensor is"),
        (lambda t: {n.removeprefix("transformer."): x for n, x in t.items()}, r"extra \(32\)"),
    ],
)
def test_what_does_not_fit_is_named(wan, attention_lora, tmp_path, change, complaint):
    path = tmp_path / "some.safetensors"
    safetensors.numpy.save_file(change(attention_lora), path)
    with pytest.raises(ValueError, match=complaint) as error:
        read_lora(path, wan.folder.family, wan.module, wan.shapes())
    assert "load_lora_weights" in str(error.value)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"r": 4, "lora_alpha": 4}, "r=4, the tensors have rank 2"),
        ({"r": 2, "use_rslora": True}, "'use_rslora': True"),
        ({"r": 2, "alpha_pattern": {"to_q": 3}}, "alpha_pattern"),
    ],
)
def test_other_kinds_of_lora_are_refused(wan, attention_lora, tmp_path, config, complaint):
    metadata = {f"transformer.{field}": value for field, value in config.items()}
    metadata = {"lora_adapter_metadata": json.dumps(metadata)}
    safetensors.numpy.save_file(attention_lora, tmp_path / FILE, metadata)
    with pytest.raises(ValueError, match=complaint):
        read_lora(tmp_path, wan.folder.family, wan.module, wan.shapes())


def test_files_that_are_none(wan, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_lora(tmp_path, wan.folder.family, wan.module, wan.shapes())
    (tmp_path / FILE).write_bytes(b"pickle")
    with pytest.raises(ValueError, match="damaged"):
        read_lora(tmp_path, wan.folder.family, wan.module, wan.shapes())


def test_adapters_without_a_form_in_peft(wan, tmp_path):
    good = random_adapters(ATTENTION, wan.shapes())
    table = wan.folder.family.transformer_table(wan.module)
    heads = {"a": np.zeros((2, 24, 2)), "b": np.zeros((2, 2, 3, 8))}
    pair = {"a": np.zeros((24, 2)), "b": np.zeros((2, 24))}
    for layers, complaint in (
        ({"blocks": {"self": {"query": heads}}}, r"query/b \(2, 2, 3, 8\) is no stack of matrices"),
        ({"blocks": {"fused": pair}}, "blocks/fused is no linear layer"),
        ({"head": {"a": pair["a"]}}, r"head/b \(\) is no matrix"),
    ):
        with pytest.raises(ValueError, match=complaint):
            lora_tensors(layers, ATTENTION, table)
    with pytest.raises(ValueError, match=r"not of rank 3.*lora\.targets"):
        lora_tensors(good, LoRA(3, 8.0, ATTENTION.targets), table)
    export_lora(tmp_path / "lora", wan.folder.family, wan.module, good, ATTENTION)
    with pytest.raises(ValueError, match="not an empty folder"):
        export_lora(tmp_path / "lora", wan.folder.family, wan.module, good, ATTENTION)
