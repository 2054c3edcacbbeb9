"""The UNet's block against the same layers in torch, forward and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import randomize
from vidpref.models.unet3d.blocks import ResidualBlock, UNetBlock

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def _torch_residual(p, x, embedding, groups):
    """[b, t, h, w, c] -> the residual block, written with torch's own layers."""

    def norm(name, x):
        y = functional.group_norm(x.movedim(-1, 1), groups, p[name]["scale"], p[name]["bias"])
        return y.movedim(1, -1)

    def conv(name, x):
        kernel = p[name]["kernel"].permute(3, 2, 0, 1)
        y = functional.conv2d(
            x.flatten(0, 1).permute(0, 3, 1, 2), kernel, p[name]["bias"], padding=1
        )
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])

    h = conv("conv_in", functional.silu(norm("norm_in", x)))
    modulation = functional.silu(embedding) @ p["modulation"]["kernel"] + p["modulation"]["bias"]
    scale, shift = modulation[:, None, None, None].chunk(2, dim=-1)
    h = conv("conv_out", functional.silu(norm("norm_out", h) * (1 + scale) + shift))
    if "shortcut" in p:
        x = x @ p["shortcut"]["kernel"] + p["shortcut"]["bias"]
    return x + h


@pytest.mark.parametrize("features", [8, 12])
def test_residual_block_equals_torch(features):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 6, 8)).astype(np.float32)
    embedding = rng.normal(size=(2, 5)).astype(np.float32)
    probe = rng.normal(size=(2, 3, 4, 6, features)).astype(np.float32)
    module = ResidualBlock(features, groups=4)
    params = randomize(jax.eval_shape(module.init, jax.random.key(0), x, embedding)["params"])

    def loss(params, x):
        out = module.apply({"params": params}, x, embedding)
        return (out * probe).sum(), out

    (_, out), (grads, grad_x) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    weights = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), params)
    inputs = torch.tensor(x, requires_grad=True)
    expected = _torch_residual(weights, inputs, torch.tensor(embedding), groups=4)
    (expected * torch.tensor(probe)).sum().backward()
    np.testing.assert_allclose(out, expected.detach(), atol=1e-4)
    np.testing.assert_allclose(grad_x, inputs.grad, atol=1e-4)
    expected_grads = jax.tree.map(lambda a: a.grad.numpy(), weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), grads, expected_grads)


def _block(**fields):
    base = {"spatial": False, "temporal": False, "cross": False}
    rest = {"head_dim": 4, "groups": 2, "conv": "xla", "attention": "xla", "emit": False}
    return UNetBlock(features=8, dtype=jnp.dtype("float32"), **{**base, **rest, **fields})


@pytest.mark.parametrize(
    ("attention", "reach"),
    [("spatial", "frame"), ("temporal", "position")],
)
def test_attention_reaches_only_its_own_axis(attention, reach):
    """With the norms' statistics held fixed, spatial attention stays in a frame, and so on."""
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 4, 8))
    rest = (None, jnp.ones((1, 6)), jnp.ones((1, 2, 6)), jnp.ones((1, 2), bool))
    module = _block(**{attention: True})
    params = randomize(jax.eval_shape(module.init, jax.random.key(1), x, *rest)["params"])
    # the residual branch is switched off: what is left is x plus attention
    params["residual"]["conv_out"] = jax.tree.map(jnp.zeros_like, params["residual"]["conv_out"])
    # swapping channels inside a group at one position keeps the group norm's statistics
    changed = x.at[0, 1, 2, 3, :4].set(x[0, 1, 2, 3, :4][::-1])
    difference = (
        module.apply({"params": params}, x, *rest)[0]
        - (module.apply({"params": params}, changed, *rest)[0])
    )
    touched = jnp.abs(difference[0]).max(axis=-1) > 1e-6
    expected = np.zeros((3, 4, 4), bool)
    if reach == "frame":
        expected[1] = True
    else:
        expected[:, 2, 3] = True
    np.testing.assert_array_equal(touched, expected)


def test_temporal_attention_knows_the_order_of_frames():
    x = jax.random.normal(jax.random.key(0), (1, 3, 2, 2, 8))
    rest = (None, jnp.ones((1, 6)), jnp.ones((1, 2, 6)), jnp.ones((1, 2), bool))
    module = _block(temporal=True)
    params = {
        "params": randomize(jax.eval_shape(module.init, jax.random.key(1), x, *rest)["params"])
    }
    out = module.apply(params, x, *rest)[0]
    reversed_out = module.apply(params, x[:, ::-1], *rest)[0]
    assert jnp.abs(out - reversed_out[:, ::-1]).max() > 1e-4
