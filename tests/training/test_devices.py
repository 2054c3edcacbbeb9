"""The same run on one device and on eight, however the mesh divides them."""

import jax
import numpy as np
import pytest
import tiny_training as tiny

from vidpref.training.loop import fit
from vidpref.training.metrics import read_metrics
from vidpref.training.sharding import make_mesh


def losses(folder, mesh, optimizer):
    settings = tiny.config({"name": optimizer})
    fit(tiny.plan(mesh, settings), tiny.batches(), folder)
    return [line["loss"] for line in read_metrics(folder)]


@pytest.mark.parametrize(
    ("name", "meshes"),
    [
        (
            "adam",
            [
                {"data": 8},
                {"data": 2, "fsdp": 2, "context": 2},
                {"data": 4, "tensor": 2},
                {"data": 2, "fsdp": 2, "tensor": 2},
                {"fsdp": 4, "tensor": 2},
            ],
        ),
        ("muon", [{"data": 4, "fsdp": 2}, {"data": 2, "fsdp": 2, "tensor": 2}]),
    ],
)
def test_losses_do_not_depend_on_the_mesh(name, meshes, tmp_path):
    expected = losses(tmp_path / "one", make_mesh({}, jax.devices()[:1]), name)
    assert len(expected) == 12
    assert expected[-1] < 0.8 * expected[0]
    for i, sizes in enumerate(meshes):
        got = losses(tmp_path / f"eight{i}", make_mesh(sizes), name)
        np.testing.assert_allclose(got, expected, rtol=1e-5, err_msg=str(sizes))
