"""AMT against PyTorch, and the file of its weights."""

import jax
import numpy as np
import pytest
import torch

from tests.models import amt_in_torch
from tests.models.torch_parity import relative_error, state_dict
from vidpref.interop.convolutional import ConvolutionalFile
from vidpref.interop.safetensors_files import write_tensors
from vidpref.models.amt import Amt, Doubled, warped
from vidpref.training.sharding import abstract_params, make_mesh

TOLERANCE = 1e-4  # measured: see docs/ported.md


def original():
    """Weights that let everything count: slopes and biases, and a result within [0, 1]."""
    torch.manual_seed(0)
    model = amt_in_torch.Amt().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 1:
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
            if name.startswith(("comb_block.2", "decoder1.convblock.2")):
                tensor *= 0.3
    return model


def pictures(h, w):
    y, x = np.mgrid[:h, :w]
    moved = (x, x + 4.5)
    shown = [[0.5 + 0.3 * np.sin(x / (9 + c) + y / 13) for c in range(3)] for x in moved]
    return [np.stack(channels, -1)[None].astype(np.float32) for channels in shown]


@pytest.mark.parametrize(("h", "w"), [(128, 144), (144, 176)])
def test_the_middle_is_that_of_pytorch(h, w, tmp_path):
    theirs = original()
    (path,) = write_tensors(tmp_path, state_dict(theirs))
    file = ConvolutionalFile(path, Amt())
    first, second = pictures(h, w)
    with torch.no_grad():
        pixels = (torch.from_numpy(x.transpose(0, 3, 1, 2)) for x in (first, second))
        wanted = theirs(*pixels).numpy().transpose(0, 2, 3, 1)
    params = file.load(abstract_params(file.abstract, make_mesh({}, jax.devices()[:1])))
    with jax.default_matmul_precision("float32"):
        ours = jax.jit(file.module.apply)({"params": params}, first, second)
    error = relative_error(ours, wanted)
    print(f"\nAMT, {h}x{w}: {error:.1e}")
    assert error < TOLERANCE
    inside = (wanted > 0) & (wanted < 1)
    assert inside.mean() > 0.5
    assert wanted[inside].std() > 0.05


def test_it_has_the_parameters_of_the_original():
    assert sum(p.numel() for p in amt_in_torch.Amt().parameters()) == 2_990_543


def test_twice_the_size_is_pytorchs_transposed_convolution():
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 5, 6, 3)).astype(np.float32)
    theirs = torch.nn.ConvTranspose2d(3, 4, 4, 2, 1)
    kernel = theirs.weight.detach().numpy().transpose(2, 3, 1, 0)
    params = {"kernel": kernel, "bias": theirs.bias.detach().numpy()}
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(Doubled(4).apply({"params": params}, x), wanted, atol=1e-5)


def test_flows_lead_to_the_edge_and_no_further():
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 6, 7, 2)).astype(np.float32)
    flow = 5 * random.normal(size=(1, 6, 7, 2)).astype(np.float32)
    wanted = amt_in_torch.warp(*(torch.from_numpy(a.transpose(0, 3, 1, 2)) for a in (x, flow)))
    np.testing.assert_allclose(warped(x, flow), wanted.numpy().transpose(0, 2, 3, 1), atol=1e-5)
    one = np.zeros((1, 6, 7, 2), np.float32) + np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(warped(x, one)[0, 3, 4], x[0, 1, 5], atol=1e-6)


def test_other_sizes_are_refused():
    image = np.zeros((1, 128, 130, 3), np.float32)
    with pytest.raises(ValueError, match="images of 128x130: sides must be multiples of 16"):
        jax.eval_shape(Amt().init, jax.random.key(0), image, image)
