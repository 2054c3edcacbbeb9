"""Meshes on the tori of TPU slices, as the compiler's descriptions give them, without a TPU."""

import json

from tests import tpu_compiler

LAY = """
import json
from jax.experimental import topologies
from vidpref.training.sharding import make_mesh

# the default of the real scales, on an 8 x 16 plane and on a torus without an axis of 2 or 16
sizes = {"data": -1, "fsdp": 16, "context": 2, "tensor": 1}
for name in ("v5e:8x16", "v5p:4x4x4", "v5p:4x4x8"):
    devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    mesh = make_mesh(sizes, devices)
    ids = sorted(device.id for device in mesh.devices.flat)
    assert ids == sorted(device.id for device in devices)
    print(json.dumps([name, mesh.shape]))
"""

SLICES = """
from jax.experimental import topologies
from vidpref.training.sharding import make_mesh

found = topologies.get_topology_desc(platform="tpu", topology_name="v6e:2x4", num_slices=2)
for sizes in ({"data": 2, "context": 8}, {"data": 4, "fsdp": 2, "context": 2}):
    mesh = make_mesh(sizes, found.devices)
    print([sorted({d.slice_index for d in part.flat}) for part in mesh.devices])
try:
    make_mesh({"data": 1, "fsdp": 16}, found.devices)
except ValueError as error:
    print(error)
"""


@tpu_compiler.needs_libtpu
def test_an_axis_of_the_torus_is_split_where_none_fits():
    found = dict(map(json.loads, tpu_compiler.run("-c", LAY).splitlines()))
    rest = {"fsdp": 16, "context": 2, "tensor": 1}
    assert found == {
        "v5e:8x16": {"data": 4, **rest},
        "v5p:4x4x4": {"data": 2, **rest},
        "v5p:4x4x8": {"data": 4, **rest},
    }


@tpu_compiler.needs_libtpu
def test_only_data_lies_between_slices():
    pair, four, refused = tpu_compiler.run("-c", SLICES).splitlines()
    assert pair == "[[0], [1]]"
    assert four == "[[0], [0], [1], [1]]"
    assert refused.startswith("mesh.data=1 does not divide over 2 slices")
