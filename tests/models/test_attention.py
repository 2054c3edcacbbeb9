"""Attention against torch's scaled_dot_product_attention, forward and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.models.attention import IMPLEMENTATIONS, dot_product_attention

torch = pytest.importorskip("torch")


@pytest.fixture
def qkv():
    rng = np.random.default_rng(0)
    shapes = [(2, 10, 3, 8), (2, 7, 3, 8), (2, 7, 3, 8)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equals_torch(qkv, implementation, masked):
    mask = np.arange(7)[None] < np.array([[4], [7]]) if masked else None
    probe = np.random.default_rng(1).normal(size=qkv[0].shape).astype(np.float32)

    def loss(q, k, v):
        out = dot_product_attention(q, k, v, mask, implementation=implementation, chunk=4)
        return (out * probe).sum(), out

    (_, out), grads = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*qkv)

    tensors = [torch.tensor(x, requires_grad=True) for x in qkv]
    heads_first = [x.transpose(1, 2) for x in tensors]
    torch_mask = None if mask is None else torch.tensor(mask)[:, None, None]
    expected = torch.nn.functional.scaled_dot_product_attention(*heads_first, torch_mask)
    expected = expected.transpose(1, 2)
    (expected * torch.tensor(probe)).sum().backward()

    np.testing.assert_allclose(out, expected.detach(), atol=1e-5)
    for grad, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(grad, tensor.grad, atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_row_without_visible_keys_is_zero_with_finite_gradient(qkv, implementation):
    q, k, v = (jnp.asarray(x) for x in qkv)
    mask = jnp.array([[False] * 7, [True] * 7])

    def out(q, k, v):
        return dot_product_attention(q, k, v, mask, implementation=implementation, chunk=4)

    result = out(q, k, v)
    assert (result[0] == 0).all()
    assert (result[1] != 0).all()
    grads = jax.grad(lambda *x: out(*x).sum(), argnums=(0, 1, 2))(q, k, v)
    assert all(jnp.isfinite(g).all() and (g[0] == 0).all() for g in grads)


def test_unknown_implementation_names_the_nearest(qkv):
    with pytest.raises(ValueError, match="did you mean chunked"):
        dot_product_attention(*qkv, implementation="chunk")
