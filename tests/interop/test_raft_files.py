"""Files of RAFT's weights: both sizes by torchvision's names, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from vidpref.interop.raft import RaftFile, abstract_raft, raft_table
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import tensor_shapes
from vidpref.models.raft.network import Raft
from vidpref.models.raft.sizes import PUBLISHED


def write(folder, size, **more):
    abstract = abstract_raft(Raft(**PUBLISHED[size]))
    random = np.random.default_rng(0)
    tensors = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in tensor_shapes(abstract, raft_table(abstract)).items()
    }
    (path,) = write_tensors(folder, {**tensors, **more})
    return path, tensors


@pytest.mark.parametrize(("size", "tensors"), [("small", 106), ("large", 154)])
def test_a_file_says_which_size_it_is_of(size, tensors, tmp_path):
    counted = {"context_encoder.convnormrelu.1.num_batches_tracked": np.array(3)}
    path, written = write(tmp_path, size, **counted)
    assert len(written) == tensors
    file = RaftFile(path)
    assert file.module == Raft(**PUBLISHED[size])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=device),
        meta.unbox(abstract_raft(file.module)),
    )
    loaded = file.load(target)
    kernel = written["update_block.flow_head.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(loaded["update_block"]["head2"]["kernel"], kernel)


def test_files_of_something_else_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.safetensors: no such file of RAFT's weights"):
        RaftFile(tmp_path / "gone.safetensors")
    (tmp_path / "raft.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        ValueError, match=r"a pickle.*unpickle\.py --file=.*raft\.pth --out=.*raft\."
    ):
        RaftFile(tmp_path / "raft.pth")
    (path,) = write_tensors(tmp_path / "other", {"weight": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"is not RAFT's small size of torchvision: these tensors"):
        RaftFile(path)
