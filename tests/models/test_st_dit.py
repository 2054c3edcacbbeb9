"""The spatio-temporal transformer's own: its block against torch, what attends to what, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import randomize
from vidpref.models.condition import Condition
from vidpref.models.dit import sizes as st_dit_sizes
from vidpref.models.dit.spatio_temporal import STDiT, STDiTBlock

FRAMES, TOKENS, WIDTH, HEAD_DIM = 3, 4, 12, 4


def _block():
    """Returns the block, random parameters and inputs (x, embedding, text, text_mask)."""
    module = STDiTBlock(FRAMES, HEAD_DIM, 2, "xla", jnp.dtype("float32"))
    rng = np.random.default_rng(0)
    shapes = [(2, FRAMES * TOKENS, WIDTH), (2, 6), (2, 5, 6)]
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    inputs.append(np.arange(5)[None] < np.array([[2], [5]]))
    params = randomize(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"])
    return module, params, inputs


def _torch_block(torch, p, x, embedding, text, mask):
    functional = torch.nn.functional

    def affine(name, x, p=p):
        return x @ p[name]["kernel"] + p[name]["bias"]

    def attend(p, q, k, v, mask=None):
        q, k, v = (y.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for y in (q, k, v))
        out = functional.scaled_dot_product_attention(q, k, v, mask)
        return affine("out", out.transpose(1, 2).flatten(2), p)

    def self_attention(name, x):
        return attend(p[name], *affine("qkv", x, p[name]).chunk(3, dim=-1))

    parts = affine("modulation", functional.silu(embedding))[:, None].chunk(9, dim=-1)

    def branch(x, number, layer):
        shift, scale, gate = parts[3 * number : 3 * number + 3]
        normed = functional.layer_norm(x, (WIDTH,), eps=1e-6)
        return x + gate * layer(normed * (1 + scale) + shift)

    def spatial(y):
        return self_attention("spatial", y.reshape(2 * FRAMES, TOKENS, WIDTH)).reshape(y.shape)

    x = branch(x, 0, spatial)
    x = branch(x, 1, lambda y: self_attention("full", y))
    y = functional.layer_norm(x, (WIDTH,), eps=1e-6)
    kv = affine("key_value", text, p["cross"]).chunk(2, dim=-1)
    x = x + attend(p["cross"], affine("query", y, p["cross"]), *kv, mask[:, None, None])
    return branch(
        x, 2, lambda y: affine("mlp_out", functional.gelu(affine("mlp_in", y), approximate="tanh"))
    )


def test_block_equals_torch():
    torch = pytest.importorskip("torch")
    module, params, (x, *rest) = _block()
    probe = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def loss(params, x):
        out, _ = module.apply({"params": params}, x, *rest)
        return (out * probe).sum(), out

    (_, out), (grads, grad_x) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    weights = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), params)
    inputs = torch.tensor(x, requires_grad=True)
    expected = _torch_block(torch, weights, inputs, *map(torch.tensor, rest))
    (expected * torch.tensor(probe)).sum().backward()
    np.testing.assert_allclose(out, expected.detach(), atol=1e-4)
    np.testing.assert_allclose(grad_x, inputs.grad, atol=1e-4)
    expected_grads = jax.tree.map(lambda a: a.grad.numpy(), weights)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), grads, expected_grads
    )


def _without(params, attention):
    """Returns the parameters with one attention's output projection at zero."""
    off = jax.tree.map(jnp.zeros_like, params[attention]["out"])
    return {**params, attention: {**params[attention], "out": off}}


@pytest.mark.parametrize(("off", "reach"), [("full", "frame"), ("spatial", "clip")])
def test_spatial_attention_stays_in_its_frame_and_full_attention_does_not(off, reach):
    module, params, (x, *rest) = _block()
    params = {"params": _without(params, off)}
    changed = x.copy()
    changed[0, TOKENS + 1, 0] += 1.0  # one token of the second frame of the first clip
    difference = module.apply(params, changed, *rest)[0] - module.apply(params, x, *rest)[0]
    touched = jnp.abs(difference).max(axis=-1).reshape(2, FRAMES, TOKENS) > 1e-6
    expected = np.zeros((2, FRAMES, TOKENS), bool)
    expected[0, 1 if reach == "frame" else slice(None)] = True
    np.testing.assert_array_equal(touched, expected)


def test_block_commutes_with_permutations_of_frames_and_of_their_tokens_alone():
    """Positions are added before the blocks, so that a block knows frames and nothing else."""
    module, params, (x, *rest) = _block()

    def run(order):
        return module.apply({"params": params}, x[:, order], *rest)[0]

    out = run(np.arange(FRAMES * TOKENS))
    grid = np.arange(FRAMES * TOKENS).reshape(FRAMES, TOKENS)
    for order in (grid[[2, 0, 1]], grid[:, [1, 3, 0, 2]]):
        np.testing.assert_allclose(run(order.ravel()), out[:, order.ravel()], atol=1e-5)
    across = grid.T.ravel()
    assert jnp.abs(run(across) - out[:, across]).max() > 1e-2


@pytest.mark.parametrize(
    ("size", "text", "clip", "millions", "tolerance"),
    [
        # VideoAlign, appendix D: 1B; the clip is a latent
        ("PAPER", (64, 4096), (8, 32, 32, 16), 1000, 100),
        ("MINI", (12, 32), (8, 16, 16, 3), 1.06, 0.02),
    ],
)
def test_sizes(size, text, clip, millions, tolerance):
    fields = getattr(st_dit_sizes, size)
    module = STDiT(channels=clip[-1], text_dim=text[1], **fields)
    condition = Condition(
        text=jnp.zeros((1, *text)),
        text_mask=jnp.ones((1, text[0]), bool),
        first_frame=jnp.zeros((1, *clip[1:])) if fields.get("first_frame", True) else None,
    )
    variables, x = (
        jax.eval_shape(
            module.init, jax.random.key(0), jnp.zeros((1, *clip)), jnp.zeros(1), condition
        ),
        jnp.zeros((1, *clip)),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) / 1e6
    assert abs(count - millions) < tolerance, count
    assert jax.eval_shape(module.apply, variables, x, jnp.zeros(1), condition).shape == x.shape
