"""RAFT against plain PyTorch, its sizes, and flow that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.models import raft_in_torch
from tests.models.raft_in_torch import RaftInTorch
from tests.models.torch_parity import assert_close, relative_error
from vidpref.interop.raft import abstract_raft, raft_table
from vidpref.interop.table import tensor_shapes, to_params, to_tensors
from vidpref.models.raft.correlation import around, pyramid
from vidpref.models.raft.network import Raft
from vidpref.models.raft.sizes import PUBLISHED

TOLERANCE = 1e-4  # measured: see docs/ported.md
SIZES = {"small": raft_in_torch.SMALL, "large": raft_in_torch.LARGE}
# `num_params` of Raft_Small_Weights and Raft_Large_Weights of torchvision
COUNTS = {"small": 990_162, "large": 5_257_536}


def images():
    """An image and the same a little further on, so that there is flow to be found."""
    random = np.random.default_rng(1)
    first = random.uniform(-1, 1, (1, 128, 136, 3)).astype(np.float32)
    noise = random.uniform(-1, 1, first.shape).astype(np.float32)
    return first, 0.7 * np.roll(first, (3, -2), (1, 2)) + 0.3 * noise


def both(size, updates):
    """The flow by PyTorch, with what it was made of, and our network with the same parameters."""
    theirs, module = RaftInTorch(SIZES[size]), Raft(**PUBLISHED[size])
    dtype = torch.get_default_dtype()
    pixels = [torch.from_numpy(x.transpose(0, 3, 1, 2)).to(dtype) for x in images()]
    flow = theirs(*[x.requires_grad_() for x in pixels], updates)
    abstract = abstract_raft(module)
    tensors = {name: tensor.detach().numpy() for name, tensor in theirs.tensors.items()}
    params = to_params(tensors, raft_table(abstract), expected=abstract)
    return theirs, pixels, flow, module, params


@pytest.mark.parametrize("size", SIZES)
def test_forward_is_that_of_plain_pytorch(size):
    *_, flow, module, params = both(size, 3)
    ours = jax.jit(lambda *x: module.apply({"params": params}, *x, 3))(*images())
    forward = relative_error(ours.transpose(0, 3, 1, 2), flow.detach().numpy())
    print(f"\nRAFT {size}: forward {forward:.1e}")
    assert forward < TOLERANCE


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(torch.float32)


def test_gradient_is_that_of_plain_pytorch():
    compare_gradients("small", TOLERANCE)


def test_gradient_of_the_large_size_in_double_precision(double):
    """In single precision some of many ReLUs next to zero switch, which changes its gradient."""
    compare_gradients("large", 1e-10)


def compare_gradients(size, tolerance):
    theirs, pixels, flow, module, params = both(size, 1)
    dtype = pixels[0].detach().numpy().dtype
    cotangent = np.random.default_rng(2).normal(size=flow.shape).astype(dtype)
    (flow * torch.from_numpy(cotangent)).sum().backward()

    def loss(params, first, second):
        ours = module.apply({"params": params}, first, second, 1)
        return (ours.transpose(0, 3, 1, 2) * cotangent).sum()

    seen = [x.astype(dtype) for x in images()]
    grads = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, *seen)
    table = raft_table(abstract_raft(module))
    mine, expected = to_tensors(grads[0], table), {}
    for name in [name for name, tensor in theirs.tensors.items() if "running" in name]:
        del mine[name]  # PyTorch does not differentiate by them
    for name in mine:
        expected[name] = theirs.tensors[name].grad.numpy()
    for i, name in enumerate(("first", "second")):
        expected[name] = pixels[i].grad.numpy()
        mine[name] = np.asarray(grads[1 + i]).transpose(0, 3, 1, 2)
    largest = max(np.abs(tensor).max() for tensor in expected.values())
    for name in [name for name in mine if in_front_of_a_norm(name)]:
        assert np.abs(mine.pop(name)).max() < 1e-5 * largest  # zero but for rounding
        del expected[name]
    backward = assert_close(mine, expected, tolerance)
    print(f"\nRAFT {size}: gradient in {dtype} {backward:.1e}")


def in_front_of_a_norm(name):
    """Whether a bias is taken away again by the instance norm behind it."""
    encoder = name.startswith("feature_encoder.") and name.endswith(".0.bias")
    return encoder and ("convnormrelu" in name or "downsample" in name)


@pytest.mark.parametrize("size", SIZES)
def test_the_named_sizes_have_the_parameters_of_the_originals(size):
    abstract = abstract_raft(Raft(**PUBLISHED[size]))
    shapes = tensor_shapes(abstract, raft_table(abstract))
    learnt = {name: shape for name, shape in shapes.items() if "running" not in name}
    assert sum(int(np.prod(shape)) for shape in learnt.values()) == COUNTS[size]


def test_a_place_is_most_alike_where_it_has_moved_to():
    features = np.eye(16 * 16, dtype=np.float32).reshape(1, 16, 16, 256)
    moved = np.roll(features, (2, -1), axis=(1, 2))
    volumes = pyramid(jnp.asarray(features), jnp.asarray(moved), 1)
    y, x = np.meshgrid(np.arange(16.0), np.arange(16.0), indexing="ij")
    near = around(volumes, np.float32(np.stack([x, y], -1))[None], 3)
    best = np.asarray(near)[0, 4:12, 4:12].reshape(64, 49).argmax(axis=-1)
    assert {(n // 7 - 3, n % 7 - 3) for n in best.tolist()} == {(-1, 2)}  # (x, y)


@pytest.mark.parametrize("shape", [(1, 128, 130, 3), (1, 120, 136, 3)])
def test_images_that_do_not_fit_are_refused(shape):
    module, image = Raft(**PUBLISHED["small"]), jnp.zeros(shape)
    with pytest.raises(ValueError, match=f"images of {shape[1]}x{shape[2]}: sides must be multip"):
        jax.eval_shape(lambda key: module.init(key, image, image, 1), jax.random.key(0))
