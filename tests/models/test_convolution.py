"""Convolutions and rearrangements against torch, forward and gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.models.convolution import (
    IMPLEMENTATIONS,
    SpatialConv,
    channels_to_space,
    space_to_channels,
)

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("grid", [(2, 2), (3, 3), (1, 4), (4, 4), (5, 7)])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equals_torch(implementation, grid):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *grid, 4)).astype(np.float32)
    module = SpatialConv(5, implementation)
    params = nn.unbox(module.init(jax.random.key(0), x)["params"])
    params["bias"] = rng.normal(size=5).astype(np.float32)
    probe = rng.normal(size=(2, 3, *grid, 5)).astype(np.float32)

    def loss(params, x):
        out = module.apply({"params": params}, x)
        return (out * probe).sum(), out

    (_, out), (grads, grad_x) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    kernel = torch.tensor(np.asarray(params["kernel"]), requires_grad=True)
    bias = torch.tensor(params["bias"], requires_grad=True)
    inputs = torch.tensor(x, requires_grad=True)
    frames = inputs.flatten(0, 1).permute(0, 3, 1, 2)
    expected = torch.nn.functional.conv2d(frames, kernel.permute(3, 2, 0, 1), bias, padding=1)
    expected = expected.permute(0, 2, 3, 1).reshape(probe.shape)
    (expected * torch.tensor(probe)).sum().backward()

    np.testing.assert_allclose(out, expected.detach(), atol=1e-4)
    np.testing.assert_allclose(grads["kernel"], kernel.grad, atol=1e-4)
    np.testing.assert_allclose(grads["bias"], bias.grad, atol=1e-4)
    np.testing.assert_allclose(grad_x, inputs.grad, atol=1e-4)


def test_space_to_channels_equals_torch_up_to_channel_order():
    x = np.random.default_rng(0).normal(size=(2, 1, 6, 4, 3)).astype(np.float32)
    ours = space_to_channels(x, (1, 2, 2))
    frames = torch.tensor(x[:, 0]).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.pixel_unshuffle(frames, 2).permute(0, 2, 3, 1)
    # torch runs (c, ph, pw), we (ph, pw, c)
    theirs = theirs.reshape(2, 3, 2, 3, 4).transpose(-1, -2).reshape(2, 3, 2, 12)
    np.testing.assert_array_equal(ours[:, 0], theirs)


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 1, 2)])
def test_channels_to_space_is_the_inverse(patch):
    x = jnp.arange(2 * 4 * 8 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 8, 4, 3)
    packed = space_to_channels(x, patch)
    assert packed.shape[-1] == 3 * np.prod(patch)
    np.testing.assert_array_equal(channels_to_space(packed, patch), x)


def test_clip_that_does_not_fit_the_patch_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 4\).*no multiple of the patch \(2, 2, 2\)"):
        space_to_channels(jnp.zeros((1, 3, 4, 4, 3)), (2, 2, 2))


def test_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match="'cudnn' is unknown"):
        SpatialConv(2, "cudnn").init(jax.random.key(0), jnp.zeros((1, 1, 4, 4, 2)))
