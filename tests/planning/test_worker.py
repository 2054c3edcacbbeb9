"""What the compiling process reads out of refusals and arguments."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.end_to_end.tiny import TINY
from vidpref.generation.adopt import load_config
from vidpref.planning.program_plan import from_dict
from vidpref.planning.topologies import parse_topology
from vidpref.planning.worker import needed_bytes, parts_of, plan
from vidpref.stages.programs import programs
from vidpref.training.sharding import make_mesh


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total "
            "memory required for HLO temporaries (400.00G) exceeds available HBM (15.48G).",
            400 * 2**30,
        ),
        ("RESOURCE_EXHAUSTED: Ran out of memory. Used 16.50G of 15.75G hbm.", 16.5 * 2**30),
        ("RESOURCE_EXHAUSTED: Ran out of memory in vmem. Used 18.1M of 16.00M vmem.", None),
        ("RESOURCE_EXHAUSTED: something else", None),
        ("INVALID_ARGUMENT: Mosaic failed (12.0G) exceeds available patience", None),
    ],
)
def test_refusals_say_what_is_needed(message, needed):
    assert needed_bytes(message) == needed


def test_a_batch_that_the_devices_do_not_divide_is_refused_in_a_sentence():
    config = load_config("dpo_aif:mini", [*TINY, "align.train.batch_size=12"])
    known = programs(config, make_mesh({"data": -1}, jax.devices()))
    found = plan("align", known["align"], parse_topology("v5e:2x4"), -1.0)
    assert not found.fits
    assert "batch_size=12: must be a multiple of accumulate (1) times the" in found.refused
    assert "\n" not in found.refused


def test_a_program_that_cannot_be_read_back_is_planned_by_its_memory(monkeypatch):
    """libtpu may write what jaxlib of another version does not read."""

    def as_text(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure\n and more")

    monkeypatch.setattr(jax.stages.Compiled, "as_text", as_text)
    config = load_config("dpo_aif:mini", TINY)
    known = programs(config, make_mesh({}, jax.devices()[:1]))
    found = plan("sample", known["sample"], parse_topology("v5e:1x1"), 0.0)
    assert found.fits
    assert found.memory.peak > 0
    assert found.unread == "INTERNAL: RET_CHECK failure"
    assert found.traffic is None
    assert from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_program_that_was_planned_is_not_compiled_again(monkeypatch):
    config = load_config("dpo_aif:mini", TINY)
    known = programs(config, make_mesh({}, jax.devices()[:1]))
    topology = parse_topology("v5e:1x1")
    first = plan("sample", known["sample"], topology, 0.0)
    done = {first.digest: json.loads(json.dumps(first.to_dict()))}

    def compiled(*args, **kwargs):
        raise AssertionError("compiled again")

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    assert plan("draw", known["sample"], topology, 0.0, done) == dataclasses.replace(
        first, name="draw"
    )
    for other in ((known["align"], topology, 0.0), (known["sample"], topology, 1.0)):
        with pytest.raises(AssertionError, match="again"):
            plan("sample", *other, done)


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
