"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL against transformers with small random weights."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch
import transformers
from flax import traverse_util

from tests.models import torch_parity as parity
from tests.models.qwen_vl_examples import (
    CONFIGS,
    batch,
    original,
    row,
    their_inputs,
    video,
)
from vidpref.interop.qwen_vl import NEW, qwen_vl_table
from vidpref.interop.table import plan, to_params, to_tensors
from vidpref.models.qwen_vl.configuration import CLASSES
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room, pack, smallest
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.training.sharding import make_mesh, param_shardings, whole_dimensions

TOLERANCE = 1e-4  # of float32; measured are errors below 1e-5
COMPILE = {"xla_backend_optimization_level": 0}  # compiling is nearly all of the time


def _tensors(model) -> dict[str, np.ndarray]:
    tied = model.config.tie_word_embeddings
    return {n: x for n, x in parity.state_dict(model).items() if not (tied and "lm_head" in n)}


@functools.cache
def small(family: str):
    """Returns a model of transformers, and ours with its parameters."""
    model = original(family)
    module = QwenVL.from_config(model.config.to_dict())
    return model, module, to_params(_tensors(model), qwen_vl_table(module, NEW))


@pytest.mark.parametrize(
    ("family", "name"), [("qwen2_vl", "text"), *((family, "mixed") for family in CONFIGS)]
)
def test_forward_and_gradient_are_those_of_transformers(family, name):
    model, module, params = small(family)
    rows = batch(family, name)
    inputs = pack(rows, module.config)
    # what padding says is nobody's concern
    probe = np.random.default_rng(1).normal(size=(*inputs.tokens.shape, 64)).astype(np.float32)
    probe *= inputs.mask[..., None]

    def loss(params):
        logits = module.apply({"params": params}, inputs)
        return (logits * probe).sum(), logits

    grads, logits = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILE)(params)

    model.zero_grad()
    expected = model(**their_inputs(rows, inputs)).logits
    (expected * torch.tensor(probe)).sum().backward()
    real = inputs.mask
    forward = parity.relative_error(np.asarray(logits)[real], expected.detach().numpy()[real])
    theirs = {n: g for n, g in parity.gradients(model).items() if n in _tensors(model)}
    backward = parity.assert_close(to_tensors(grads, qwen_vl_table(module, NEW)), theirs, TOLERANCE)
    print(f"\n{family} {name}: forward {forward:.1e}, gradient {backward:.1e}")
    assert forward < TOLERANCE


def test_features_are_the_merged_ones_and_a_frame_is_seen_alone():
    model, module, params = small("qwen2_vl")
    rows = [row("qwen2_vl", video(3, 4, 6))]
    inputs = pack(rows, module.config)
    apply = jax.jit(
        lambda p, x: module.apply({"params": p}, x, method="features")[0],
        compiler_options=COMPILE,
    )
    features = apply(params, inputs.patches)
    theirs = their_inputs(rows, inputs)
    with torch.no_grad():
        out = model.model.visual(theirs["pixel_values_videos"], theirs["video_grid_thw"])
    assert parity.relative_error(features[0], out.pooler_output.numpy()) < TOLERANCE
    pixels = inputs.patches.pixels.copy()
    pixels[:, 1] += 1
    changed = np.asarray(apply(params, inputs.patches.replace(pixels=pixels)))
    same = np.asarray(features == changed).all(axis=-1)[0]
    np.testing.assert_array_equal(same, [True] * 6 + [False] * 6 + [True] * 6)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_room_padding_and_the_other_rows_change_nothing(family):
    _, module, params = small(family)
    rows = batch(family, "mixed")
    apply = jax.jit(
        lambda inputs: module.apply({"params": params}, inputs), compiler_options=COMPILE
    )
    together = pack(rows, module.config, Room(50, 8, 128), left=True)
    together = np.asarray(apply(together))[together.mask]
    # one by one, in the smallest arrays that hold all of them
    room = Room(42, 5, 96)
    alone = [pack([one], module.config, room) for one in rows]
    alone = np.concatenate([np.asarray(apply(inputs))[inputs.mask] for inputs in alone])
    assert parity.relative_error(together, alone) < 1e-5


def test_half_precision_is_near_that_of_transformers():
    model, module, params = small("qwen2_5_vl")
    rows = batch("qwen2_5_vl", "mixed")
    inputs = pack(rows, module.config)
    half = module.clone(dtype="bfloat16")
    ours = np.asarray(
        jax.jit(half.apply, compiler_options=COMPILE)({"params": params}, inputs), np.float32
    )
    theirs = original("qwen2_5_vl").to(torch.bfloat16)
    exact = model(**their_inputs(rows, inputs)).logits.detach().numpy()
    with torch.no_grad():
        rounded = theirs(**their_inputs(rows, inputs)).logits.float().numpy()
    error, wanted = (np.abs(x - exact)[inputs.mask].mean() for x in (ours, rounded))
    assert 0 < error < 1.5 * wanted


@pytest.mark.parametrize("name", PUBLISHED)
def test_named_sizes_have_the_parameters_of_the_originals(name):
    module = QwenVL.from_config(PUBLISHED[name])
    config = transformers.CONFIG_MAPPING[module.config.family].from_dict(PUBLISHED[name])
    with torch.device("meta"):
        theirs = getattr(transformers, CLASSES[module.config.family])(config)
    theirs = {n: tuple(x.shape) for n, x in theirs.state_dict().items()}
    if config.tie_word_embeddings:
        del theirs["lm_head.weight"]
    boxed = jax.eval_shape(module.init, jax.random.key(0), smallest(module.config))["params"]
    shapes = nn.unbox(boxed)
    plan(theirs, qwen_vl_table(module, NEW), expected=shapes)  # all are used, in their shapes
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert count == sum(int(np.prod(shape)) for shape in theirs.values())
    print(f"\n{name}: {count:,} parameters")


@pytest.mark.parametrize("name", ["Qwen2.5-VL-3B", "Qwen3-VL-8B"])
def test_parameters_lie_on_a_mesh(name):
    module = QwenVL.from_config(PUBLISHED[name])
    boxed = jax.eval_shape(module.init, jax.random.key(0), smallest(module.config))["params"]
    mesh = make_mesh({"fsdp": 2, "tensor": 2, "data": -1})
    shardings = traverse_util.flatten_dict(param_shardings(boxed, mesh), sep="/")
    assert not whole_dimensions(boxed, mesh)
    whole = {path for path, leaf in shardings.items() if leaf.is_fully_replicated}
    # norms, and biases of what is summed up or of nothing that is split
    assert all("norm" in path for path in whole), whole
