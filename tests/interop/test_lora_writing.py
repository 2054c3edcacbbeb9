"""LoRA files that we write: diffusers and PEFT load them, and so do we."""

import functools
import os

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
from vidpref.interop.lora.files import FILE
from vidpref.interop.lora.reading import read_lora
from vidpref.interop.lora.writing import export_lora, lora_tensors, stack
from vidpref.models.lora import LoRA, merge, with_lora

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


def policy_after(pair, rounds):
    """Outputs of the base with the adapters of every round merged into the round before's."""
    params = jax.device_get(pair.load())
    for adapters, spec in rounds:
        params = merge(params, nn.unbox(adapters), spec)
    run = jax.jit(pair.module.apply, compiler_options={"xla_backend_optimization_level": 0})
    return run({"params": params}, *pair.inputs)


@pytest.mark.parametrize("kind", ["wan", "cogvideox_i2v"], indirect=True)
def test_rounds_leave_as_one_file_with_their_ranks_side_by_side(pair, tmp_path):
    """Scales and layers of the rounds differ; diffusers makes of the file what they made."""
    rng = np.random.default_rng(7)
    specs = (LoRA(2, 8.0, ("query/", "^head/")), LoRA(3, 4.5, ("query/", "value/")))
    rounds = [(random_adapters(spec, pair.shapes()), spec) for spec in specs]
    first = nn.unbox(rounds[0][0])
    first["head"]["bias"] = rng.normal(size=pair.load()["head"]["bias"].shape).astype(np.float32)
    rounds[0] = (first, specs[0])
    base = pair.theirs(pair.pipe.transformer)
    export_lora(tmp_path / "out", pair.folder.family, pair.module, *stack(rounds))
    pair.pipe.load_lora_weights(tmp_path / "out")
    theirs = pair.theirs(pair.pipe.transformer)
    assert relative_error(policy_after(pair, rounds), theirs) < 1e-5
    assert relative_error(base, theirs) > 0.05

    file = safetensors.numpy.load_file(tmp_path / "out" / FILE)
    ranks = {name: len(x) for name, x in file.items() if name.endswith("lora_A.weight")}
    assert {n.split(".")[-3]: rank for n, rank in ranks.items()} == {
        "to_q": 5, "to_v": 3, "proj_out": 2,
    }  # fmt: skip
    read, spec = read_lora(tmp_path / "out", pair.folder.family, pair.module, pair.shapes())
    assert spec.rank == 5
    assert_equal(lora_tensors(read, spec, pair.folder.family.transformer_table(pair.module)), file)


def test_rounds_of_one_spec_keep_their_bits_and_their_scale(wan, tmp_path):
    rounds = [(random_adapters(ATTENTION, wan.shapes()), ATTENTION)] * 2
    adapters, spec = stack(rounds)
    assert (spec.rank, spec.alpha, spec.targets) == (4, 16.0, ATTENTION.targets)
    wanted = flatten_dict(nn.unbox(rounds[0][0]))
    for path, leaf in flatten_dict(adapters).items():
        for half in np.split(leaf, 2, axis=-1 if path[-1] == "a" else -2):
            np.testing.assert_array_equal(half, wanted[path])


def test_ranks_that_are_not_there_are_not_written(wan, tmp_path):
    """What is read of a file with ranks by module and block leaves as the same tensors."""
    rng, tensors = np.random.default_rng(2), {}
    for layer, rank in (("blocks.1.attn1.to_q", 3), ("blocks.0.attn1.to_k", 1), ("proj_out", 2)):
        out, inner = wan.pipe.transformer.get_submodule(layer).weight.shape
        for name, shape in (("lora_A", (rank, inner)), ("lora_B", (out, rank))):
            values = rng.normal(size=shape).astype(np.float32)
            tensors[f"transformer.{layer}.{name}.weight"] = values
    safetensors.numpy.save_file(tensors, tmp_path / "own.safetensors")
    read = read_lora(tmp_path / "own.safetensors", wan.folder.family, wan.module, wan.shapes())
    export_lora(tmp_path / "out", wan.folder.family, wan.module, *read)
    assert_equal(safetensors.numpy.load_file(tmp_path / "out" / FILE), tensors)
    again = read_lora(tmp_path / "out", wan.folder.family, wan.module, wan.shapes())
    assert_equal(again[0], read[0])
    assert again[1] == read[1]
    # diffusers has the scale 1 of them all
    wan.pipe.load_lora_weights(tmp_path / "out")
    layer = wan.pipe.transformer.get_submodule("blocks.0.attn1.to_k")
    assert layer.scaling == {"default_0": 1.0}
    assert layer.r == {"default_0": 1}


def test_others_may_read_the_file(wan, tmp_path):
    adapters = random_adapters(ATTENTION, wan.shapes())
    before = os.umask(0o022)
    try:
        export_lora(tmp_path / "out", wan.folder.family, wan.module, adapters, ATTENTION)
    finally:
        os.umask(before)
    assert (tmp_path / "out" / FILE).stat().st_mode & 0o777 == 0o644


def test_adapters_that_are_zero_are_no_file(wan, tmp_path):
    adapters = jax.tree.map(np.zeros_like, nn.unbox(random_adapters(ATTENTION, wan.shapes())))
    with pytest.raises(ValueError, match="nothing to export"):
        export_lora(tmp_path / "out", wan.folder.family, wan.module, adapters, ATTENTION)


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
