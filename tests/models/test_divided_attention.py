"""Attention of tokens that are divided over devices equals that of whole ones."""

import functools

import jax
import numpy as np
import pytest

from vidpref.models.attention import attention_of_tokens, attention_to_whole, divided
from vidpref.models.attention.splash import splash_attention
from vidpref.models.dense import dense
from vidpref.models.lora import LoRA, with_lora
from vidpref.models.spread import Division, token_division, tokens_may_be_split
from vidpref.training.sharding import activation_rules, batch_sharding, make_mesh, replicated

AXES = {"data": 2, "context": 2, "tensor": 2}
L, N, D = 14, 6, 8  # 14 tokens are 2 groups of 7; each device of tensor has 3 heads


def draw(l=L, m=L, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, s, N, D)).astype(np.float32) for s in (l, m, m)]


def with_gradients(attend, qkv):
    """Returns the output and the gradients of its random projection."""
    probe = np.random.default_rng(1).normal(size=qkv[0].shape).astype(np.float32)

    def loss(q, k, v):
        out = attend(q, k, v)
        return (out * probe).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*qkv)
    return out, *grads


def on_mesh(attend, qkv):
    mesh = make_mesh(AXES)
    with activation_rules(mesh):
        return with_gradients(attend, jax.device_put(qkv, batch_sharding(mesh)))


@pytest.fixture(params=["xla", "chunked", "splash"])
def implementation(request, monkeypatch):
    if request.param == "splash":  # the kernel does not run here, but it can be interpreted

        def interpreted(q, k, v, mask=None, *, implementation):
            return splash_attention(q * q.shape[-1] ** -0.5, k, v, mask, interpret=True)

        monkeypatch.setattr(divided, "dot_product_attention", interpreted)
    return request.param


@pytest.mark.parametrize("groups", [1, 2])
def test_of_tokens(implementation, groups):
    qkv = draw()
    attend = functools.partial(attention_of_tokens, groups=groups, implementation=implementation)
    division = Division(L, ("data",), "context", 2)
    ours = on_mesh(functools.partial(attend, division=division), qkv)
    expected = with_gradients(functools.partial(attend, division=Division(L)), qkv)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_filled_up_tokens_neither_see_nor_are_seen():
    division = Division(13, ("data",), "context", 2)
    q, k, v = draw(13, 13)
    filled = [np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)), constant_values=9.0) for x in (q, k, v)]
    attend = functools.partial(attention_of_tokens, implementation="xla")
    out, *grads = on_mesh(functools.partial(attend, division=division), filled)
    expected = with_gradients(functools.partial(attend, division=Division(13)), (q, k, v))
    np.testing.assert_allclose(out[:, :13], expected[0], atol=1e-5)
    assert (out[:, 13] == 0).all()
    for mine in grads:
        assert (mine[:, 13] == 0).all()


def test_to_a_text(implementation):
    qkv = draw(m=5)
    mask = np.array([[1, 1, 1, 0, 0], [0] * 5], bool)  # the second row has no text
    attend = functools.partial(attention_to_whole, mask=mask, implementation=implementation)
    division = Division(L, ("data",), "context", 2)
    ours = on_mesh(functools.partial(attend, division=division), qkv)
    expected = with_gradients(functools.partial(attend, division=Division(L)), qkv)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("clips", "axes", "expected"),
    [
        (8, {"data": 2, "context": 4}, Division(9, ("data", "fsdp", "context"))),
        (4, {"data": 2, "context": 4}, Division(9, ("data", "fsdp"), "context", 4)),
        (1, {"context": 8}, Division(9, (), "context", 8)),
        (3, {"data": 2, "fsdp": 4}, Division(9)),
    ],
)
def test_context_divides_clips_where_it_can_and_else_tokens(clips, axes, expected):
    with activation_rules(make_mesh(axes)):
        assert token_division(clips, 9, 8) == expected


def test_without_a_mesh_tokens_are_whole():
    assert token_division(4, 9, 8) == Division(9)
    assert not tokens_may_be_split()


@pytest.mark.parametrize(
    ("axes", "length", "heads", "message"),
    [
        ({"context": 8}, 7, 8, "context=8 .* there are only 7 tokens of a clip"),
        ({"context": 8}, 8, 6, "only 6 attention heads a device"),
        ({"context": 4, "tensor": 2}, 8, 6, "only 3 attention heads a device"),
    ],
)
def test_too_little_to_divide_is_refused(axes, length, heads, message):
    with activation_rules(make_mesh(axes)), pytest.raises(ValueError, match=message):
        token_division(2, length, heads)


def test_adapters_leave_tokens_divided():
    mesh, layer = make_mesh({"context": 8}), dense(32)
    division = Division(16, (), "context", 8)
    rng = np.random.default_rng(0)
    x, kernel, bias, a, b = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((3, 16, 12), (12, 32), (32,), (12, 2), (2, 32))
    )
    adapted = with_lora(layer.apply, LoRA(rank=2, alpha=2.0, targets=("kernel",)))

    @functools.partial(jax.jit, in_shardings=replicated(mesh))
    def on_eight(x):
        variables = {"params": {"kernel": kernel, "bias": bias}}
        with activation_rules(mesh):
            return division.spread(adapted(variables, {"a": a, "b": b}, division.spread(x)))

    compiled = on_eight.lower(x).compile()
    np.testing.assert_allclose(compiled(x), x @ kernel + bias + x @ a @ b, atol=1e-4)
    for kind in ("all-gather", "all-to-all", "collective-permute"):
        assert kind not in compiled.as_text()
