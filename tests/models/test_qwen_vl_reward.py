"""The reward model against a head on transformers' Qwen2-VL, and what cannot see the prompt."""

import functools

import jax
import numpy as np
import pytest
import torch
import transformers

from tests.language.reward_rows import clip, tiny_reader
from tests.models import torch_parity as parity
from tests.models.qwen_vl_examples import their_inputs
from vidpref.interop.qwen_vl import NEW, qwen_vl_table
from vidpref.interop.table import to_params, to_tensors
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.reward import (
    QwenVLReward,
    from_arrays,
    shapes_of,
    smallest_rows,
    to_arrays,
)

TOLERANCE = 1e-4  # of float32; measured are errors below 1e-5
COMPILE = {"xla_backend_optimization_level": 0}  # compiling is nearly all of the time
ROOM = Room(tokens=128, frames=3, patches=16)


@functools.cache
def original(folder):
    """A model of transformers with random weights, and a head on it."""
    fields = tiny_reader(folder).config.write()
    torch.manual_seed(0)
    config = transformers.Qwen2VLConfig(**fields)
    config._attn_implementation = "eager"
    model = transformers.Qwen2VLForConditionalGeneration(config).eval()
    parity.randomize(model)
    return model, torch.randn(3, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


def our_model(reader, outputs, own_tokens, tensors, head):
    module = QwenVLReward(reader.config, 3, outputs, own_tokens)
    table = qwen_vl_table(QwenVL(reader.config), NEW)
    params = {"model": to_params(tensors, table), "head": {"kernel": head.T}}
    if own_tokens:
        params["tokens"] = params["model"]["embed"]["embedding"][reader.token_ids]
    return module, params


@pytest.mark.parametrize(
    ("outputs", "shared", "positions"),
    [(3, False, "sequential"), (1, False, "mrope"), (3, True, "sequential")],
)
def test_scores_and_gradients_are_those_of_a_head_on_transformers(
    folder, outputs, shared, positions
):
    reader = tiny_reader(folder, shared=shared, positions=positions)
    model, whole_head = original(folder)
    head = whole_head[:outputs].clone().requires_grad_()
    tensors = {n: x for n, x in parity.state_dict(model).items() if n != "lm_head.weight"}
    module, params = our_model(reader, outputs, not shared, tensors, head.detach().numpy())
    prompts = "a ball", "two red balls and a cube"
    rows = [reader.row(clip(6 * (i + 1), seed=i), 4.0, p) for i, p in enumerate(prompts)]
    packed = reader.pack(rows, ROOM)
    probe = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)

    def loss(params, packed):
        scores = module.apply({"params": params}, packed)
        return (scores * probe).sum(), scores

    step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILE)
    grads, scores = step(params, packed)

    model.zero_grad()
    states = model.model(**their_inputs([r.row for r in rows], packed.inputs)).last_hidden_state
    at = torch.tensor(packed.at).long()
    out = states[torch.arange(2)[:, None], at] @ head.T
    expected = out[..., 0] if outputs == 1 else torch.diagonal(out, dim1=1, dim2=2)
    (expected * torch.tensor(probe)).sum().backward()
    forward = parity.relative_error(np.asarray(scores), expected.detach().numpy())
    ours = jax.tree.map(np.array, grads)
    if not shared:  # transformers has them among the others
        embedding = ours["model"]["embed"]["embedding"]
        assert not embedding[reader.token_ids].any()
        embedding[reader.token_ids] = ours["tokens"]
    table = qwen_vl_table(QwenVL(reader.config), NEW)
    found = {**to_tensors(ours["model"], table), "head": ours["head"]["kernel"].T}
    wanted = {n: g for n, g in parity.gradients(model).items() if n in tensors}
    wanted["head"] = head.grad.numpy()
    backward = parity.assert_close(found, wanted, TOLERANCE)
    print(f"\n{outputs} outputs, {positions}: forward {forward:.1e}, gradient {backward:.1e}")
    assert forward < TOLERANCE

    # the same clip under another prompt, in the same place of the same program
    other = [reader.row(clip(6, seed=0), 4.0, "blue squares"), rows[1]]
    again = np.asarray(step(params, reader.pack(other, ROOM))[1])
    same = np.asarray(scores[0] == again[0])
    assert same.tolist() == ([False] * 3 if shared else [True, True, False])
    np.testing.assert_array_equal(scores[1], again[1])


def test_positions_count_and_a_head_that_does_not_fit_is_refused(folder):
    reader = tiny_reader(folder)
    module = QwenVLReward(reader.config, 3, 2)
    with pytest.raises(ValueError, match="a head of 2 outputs does not fit 3 dimensions"):
        jax.eval_shape(module.init, jax.random.key(0), smallest_rows(reader.config, 3))
    module = QwenVLReward(reader.config, 3, 3)
    boxed = jax.eval_shape(module.init, jax.random.key(0), smallest_rows(reader.config, 3))
    assert set(boxed["params"]) == {"model", "tokens", "head"}


def test_shapes_are_those_of_a_row(folder):
    reader = tiny_reader(folder)
    packed = to_arrays(reader.pack([reader.row(clip(8), 4.0, "a ball")], ROOM))
    shapes = shapes_of(reader.config, 3, ROOM, "float32")
    found = {name: (values.shape[1:], values.dtype) for name, values in packed.items()}
    assert found == {name: (shape.shape, shape.dtype) for name, shape in shapes.items()}
    again = to_arrays(from_arrays(packed))
    jax.tree.map(np.testing.assert_array_equal, again, packed)
