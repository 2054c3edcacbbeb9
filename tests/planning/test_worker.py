"""What the compiling process reads out of refusals and arguments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidpref.planning.worker import needed_bytes, parts_of


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total "
            "memory required for HLO temporaries (400.00G) exceeds available HBM (15.48G).",
            400 * 2**30,
        ),
        ("RESOURCE_EXHAUSTED: Ran out of memory. Used 16.50G of 15.75G hbm.", 16.5 * 2**30),
        ("RESOURCE_EXHAUSTED: something else", math.inf),
        ("INVALID_ARGUMENT: Mosaic failed (12.0G) exceeds available patience", None),
    ],
)
def test_refusals_say_what_is_needed(message, needed):
    assert needed_bytes(message) == needed


def test_arguments_count_as_they_lie_on_a_device():
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"))

    def struct(spec, *shape, dtype=jnp.float32):
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    found = parts_of(
        {
            "params": {"split": struct(("fsdp",), 8, 4), "whole": struct((), 3)},
            "frozen": {"reference": struct((("data", "fsdp"),), 8, dtype=jnp.bfloat16)},
            "images": None,
        }
    )
    assert found == {"params": 4 * 4 * 4 + 3 * 4, "reference": 2 * 2}
