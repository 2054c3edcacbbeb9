"""I3D and FID's Inception-V3: values against PyTorch, and files of their weights."""

import jax
import numpy as np
import pytest
import torch

from tests.models import i3d_in_torch, inception_in_torch
from tests.models.normed import randomize_normed
from tests.models.torch_parity import relative_error, state_dict
from vidpref.interop.convolutional import ConvolutionalFile, abstract_of, table_of
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import to_params
from vidpref.models.i3d import I3d
from vidpref.models.inception import Inception
from vidpref.training.sharding import abstract_params, make_mesh

TOLERANCE = 1e-4  # measured: see docs/ported.md


def write(folder, model):
    randomize_normed(model.eval())
    (path,) = write_tensors(folder, state_dict(model))
    return path


def placed(file):
    return file.load(abstract_params(file.abstract, make_mesh({}, jax.devices()[:1])))


@pytest.mark.parametrize(("frames", "eps"), [(9, 1e-3), (16, 1e-5)])
def test_i3d_is_that_of_pytorch(frames, eps, tmp_path):
    theirs = i3d_in_torch.I3d(eps=eps)
    file = ConvolutionalFile(write(tmp_path, theirs), I3d(epsilon=eps))
    clips = np.random.default_rng(0).uniform(-1, 1, (1, frames, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(clips.transpose(0, 4, 1, 2, 3))).numpy()
    ours = jax.jit(file.module.apply)({"params": placed(file)}, clips)
    error = relative_error(ours, wanted)
    print(f"\nI3D, {frames} frames: {error:.1e}")
    assert error < TOLERANCE


def test_inception_is_that_of_pytorch(tmp_path):
    theirs = inception_in_torch.Inception()
    file = ConvolutionalFile(write(tmp_path, theirs), Inception())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 107, 98, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    ours = jax.jit(file.module.apply)({"params": placed(file)}, images)
    errors = [relative_error(x, y.numpy()) for x, y in zip(ours, wanted, strict=True)]
    print(f"\nInception-V3, features and logits: {errors[0]:.1e}, {errors[1]:.1e}")
    assert max(errors) < TOLERANCE


@pytest.mark.parametrize(
    ("ours", "theirs", "count"),
    [
        # counted once on pytorch-i3d and pytorch-fid themselves
        (I3d(), i3d_in_torch.I3d, 12_697_264),
        (Inception(), inception_in_torch.Inception, 23_850_960),
    ],
)
def test_they_have_the_parameters_of_the_originals(ours, theirs, count):
    with torch.device("meta"):
        theirs = theirs()
    abstract = abstract_of(ours)
    learnt = [
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(abstract)
        if "mean" not in str(path) and "variance" not in str(path)
    ]
    unused = 0 if isinstance(ours, I3d) else 1008
    assert sum(learnt) + unused == sum(p.numel() for p in theirs.parameters())
    assert sum(learnt) + unused == count


def test_short_clips_are_refused():
    with pytest.raises(ValueError, match="I3D needs 9 frames, and a clip has 8"):
        jax.eval_shape(I3d().init, jax.random.key(0), np.zeros((1, 8, 224, 224, 3), np.float32))


def test_files_of_something_else_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.safetensors: no such file of pytorch-i3d"):
        ConvolutionalFile(tmp_path / "gone.safetensors", I3d())
    (tmp_path / "i3d.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"a pickle.*unpickle\.py --file=.*i3d\.pt --out=.*i3d\."):
        ConvolutionalFile(tmp_path / "i3d.pt", I3d())
    (path,) = write_tensors(tmp_path / "other", {"weight": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="is not pytorch-fid's Inception-V3: these tensors"):
        ConvolutionalFile(path, Inception())


def test_the_table_names_every_tensor():
    theirs = inception_in_torch.Inception()
    tensors = state_dict(theirs)
    kept = {n: x for n, x in tensors.items() if not n.endswith(("num_batches_tracked", "fc.bias"))}
    abstract = abstract_of(Inception())
    params = to_params(kept, table_of(abstract), expected=abstract)
    kernel = tensors["Mixed_7c.branch3x3dbl_3b.conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["Mixed_7c"]["branch3x3dbl_3b"]["conv"]["kernel"], kernel)
