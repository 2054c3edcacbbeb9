"""The benchmark of steps on fresh draws: its programs run, and its rates follow from the times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import app

from tests.benchmark_programs import imported

online_steps = imported("online_steps")
SMALL = "diffusion_nft:mini+align.train.batch_size=2+align.online.group=2+model.dit.layers=1"


def test_what_is_drawn_and_learnt_from_is_timed():
    ((name, draw, learn),) = online_steps.steps_of(SMALL)
    assert name == "diffusion_nft:mini"
    assert (draw.drawn, draw.unit) == (4, "clips")
    assert (learn.drawn, learn.unit) == (0, "")
    assert draw.seconds() > 0
    assert learn.seconds() > 0
    assert learn.seconds() > 0  # its state is made anew


def test_a_config_that_draws_nothing_is_refused():
    with pytest.raises(app.UsageError, match="flow_dpo:mini: it draws nothing"):
        list(online_steps.steps_of("flow_dpo:mini"))


def test_rates_are_of_medians():
    cells = online_steps.cells(64, "tokens", [(2.0, 4.0), (1.0, 8.0), (16.0, 4.0)])
    assert cells == ["64 tokens", "2.00 (1.00-16.00)", "4.00 (4.00-8.00)", "32", "16"]


def test_shapes_are_filled_by_their_types():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = {
        "pixels": jax.ShapeDtypeStruct((3, 2), jnp.float32, sharding=sharding),
        "mask": jax.ShapeDtypeStruct((4,), bool, sharding=sharding),
        "tokens": jax.ShapeDtypeStruct((5,), jnp.int32, sharding=sharding),
    }
    found = online_steps.filled(shapes)
    assert 0 < float(np.abs(found["pixels"]).max()) < 0.1
    assert found["mask"].all()
    assert not found["tokens"].any()
    assert {name: x.shape for name, x in found.items()} == {
        "pixels": (3, 2),
        "mask": (4,),
        "tokens": (5,),
    }
