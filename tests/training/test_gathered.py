"""Weights that are gathered before an answer is drawn: the same answers, and no gathering in it."""

import functools
import re

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import PartitionSpec

from tests.models.qwen_vl_examples import original, row, video
from vidpref.language.decoding import answer
from vidpref.language.sampling import Sampling
from vidpref.models.lora import Adapted, LoRA
from vidpref.models.qwen_vl.answers import QwenVLAnswers
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.packing import Room, pack, smallest
from vidpref.training.gathered import gathering
from vidpref.training.sharding import (
    abstract_params,
    activation_rules,
    batch_sharding,
    make_mesh,
    replicated,
)

COMPILE = {"xla_backend_optimization_level": 0}
RULE = Sampling(6, (), temperature=1.0)
SPEC = LoRA(rank=2, alpha=4.0, targets=(r"text/blocks/(query|value)/",))


@functools.cache
def judge():
    """A small judge in bfloat16, a mesh over which it lies, and its parameters there."""
    config = QwenVLConfig.read(original("qwen2_vl").config.to_dict())
    module = QwenVLAnswers(config, dtype="bfloat16")
    mesh = make_mesh({"data": 2, "fsdp": 4})

    def network(key):
        return module.init(key, smallest(config, more=1), 1)["params"]

    target = abstract_params(jax.eval_shape(network, jax.random.key(0)), mesh)
    init = jax.jit(
        lambda key: nn.unbox(network(key)), out_shardings=jax.tree.map(lambda x: x.sharding, target)
    )
    return module, network, mesh, init(jax.random.key(1))


def drawn(policy, gather: bool):
    """The compiled program that draws answers, and what it is given."""
    module, network, mesh, _ = judge()
    rows = [row("qwen2_vl", 3, video(2, 4, 4), 2, seed=i) for i in range(8)]
    packed = pack(rows, module.config, Room(28, 3, 32), left=True)
    inputs = jax.device_put(packed, batch_sharding(mesh))
    whole = gathering(network, mesh) if gather else lambda policy: policy

    def draw(policy, inputs, key):
        with activation_rules(mesh):
            return answer(module, whole(policy), inputs, key, RULE, 2)

    key = jax.device_put(jax.random.key(3), replicated(mesh))
    return jax.jit(draw).lower(policy, inputs, key).compile(COMPILE), (policy, inputs, key)


def gathered_in_loops(text: str) -> list[str]:
    """The all-gathers of a compiled program that its loops reach."""
    parts = dict(re.findall(r"^(?:ENTRY )?%?([\w.-]+) \([^\n]*\{\n(.*?)^\}", text, re.M | re.S))
    reached = set(re.findall(r"body=%?([\w.-]+)", text))
    todo = list(reached)
    while todo:
        for name in re.findall(r"(?:calls|body|to_apply|condition)=%?([\w.-]+)", parts[todo.pop()]):
            if name not in reached:
                reached.add(name)
                todo.append(name)
    lines = [line for name in reached for line in parts[name].splitlines()]
    return [line.strip()[:200] for line in lines if re.search(r"\ball-gather(-start)?\(", line)]


def test_the_same_answers_and_no_gathering_for_each_token():
    _, network, mesh, params = judge()
    boxed = jax.eval_shape(network, jax.random.key(0))
    own = jax.tree.map(lambda x: x + 0.01, nn.unbox(SPEC.init(jax.random.key(4), boxed)))
    policy = Adapted(params, jax.device_put(own, replicated(mesh)), SPEC)
    (plain, given), (whole, _) = drawn(policy, False), drawn(policy, True)
    expected, found = plain(*given), whole(*given)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=0.1)  # bfloat16
    assert len(gathered_in_loops(plain.as_text())) > 10
    assert gathered_in_loops(whole.as_text()) == []


def test_parts_over_tensor_stay():
    _, network, *_ = judge()
    mesh = make_mesh({"fsdp": 4, "tensor": 2})
    boxed = jax.eval_shape(network, jax.random.key(0))
    target = abstract_params(boxed, mesh)
    found = jax.jit(gathering(network, mesh)).lower(target).compile().output_shardings
    kernel = found["model"]["text"]["blocks"]["query"]["kernel"]
    stored = target["model"]["text"]["blocks"]["query"]["kernel"]
    assert stored.sharding.spec == PartitionSpec(None, None, ("tensor", "fsdp"))
    assert kernel.spec == PartitionSpec(None, None, "tensor")
