"""MUSIQ against PyTorch, and the file of its weights."""

import jax
import numpy as np
import pytest
import torch

from tests.models import musiq_in_torch
from tests.models.torch_parity import randomize, relative_error, state_dict
from vidpref.interop.convolutional import ConvolutionalFile, abstract_of
from vidpref.interop.safetensors_files import write_tensors
from vidpref.models.musiq import Musiq, hashed_places
from vidpref.training.sharding import abstract_params, make_mesh

TOLERANCE = 1e-4  # measured: see docs/ported.md
SMALL = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}


def small(folder):
    torch.manual_seed(0)
    theirs = musiq_in_torch.Musiq(24, 40, 3, 2).eval()
    randomize(theirs)
    (path,) = write_tensors(folder, state_dict(theirs))
    return theirs, ConvolutionalFile(path, Musiq(**SMALL, num_attention_heads=3))


@pytest.mark.parametrize(("h", "w"), [(70, 130), (96, 64), (250, 250)])
def test_scores_are_those_of_pytorch(h, w, tmp_path):
    theirs, file = small(tmp_path)
    images = np.random.default_rng(0).uniform(0, 1, (2, h, w, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    params = file.load(abstract_params(file.abstract, make_mesh({}, jax.devices()[:1])))
    with jax.default_matmul_precision("float32"):
        ours = jax.jit(file.module.apply)({"params": params}, 2 * images - 1)
    error = relative_error(ours, wanted)
    print(f"\nMUSIQ, {h}x{w}: {error:.1e}")
    assert error < TOLERANCE
    assert np.ptp(wanted) > 20 * TOLERANCE * np.abs(wanted).max()


def test_it_has_the_parameters_of_the_original():
    with torch.device("meta"):
        theirs = musiq_in_torch.Musiq()
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract_of(Musiq())))
    assert count == sum(p.numel() for p in theirs.parameters())


def test_places_are_rounded_to_a_grid_of_ten():
    assert hashed_places(1, 10).tolist() == list(range(10))
    assert hashed_places(2, 5).tolist() == [0, 2, 4, 6, 8, 50, 52, 54, 56, 58]
    assert hashed_places(20, 1).tolist() == [10 * (n // 2) for n in range(20)]
