"""Loads a folder of weights onto eight devices and prints by how many bytes the process grew.

The one argument is the folder. Prints the bytes on the devices too.
"""

import resource
import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidpref.interop.loading import load_onto
from vidpref.interop.table import Rule

BLOCKS, WIDTH = 4, 1024
TABLE = tuple(Rule(f"h.{{i}}.{name}", f"h/{name}", "linear") for name in "abcdef")


def target() -> dict:
    mesh = Mesh(np.array(jax.devices()).reshape(8), ("fsdp",))
    sharding = NamedSharding(mesh, PartitionSpec(None, "fsdp", None))
    shape = jax.ShapeDtypeStruct((BLOCKS, WIDTH, WIDTH), np.float32, sharding=sharding)
    return {"h": {name: shape for name in "abcdef"}}


def main() -> None:
    jax.block_until_ready(jax.device_put(0.0))  # starts the devices
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    params = load_onto(target(), sys.argv[1], TABLE)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    held = sum(s.data.nbytes for p in jax.tree.leaves(params) for s in p.addressable_shards)
    print(grown, held)


if __name__ == "__main__":
    main()
