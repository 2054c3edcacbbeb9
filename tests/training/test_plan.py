"""A plan is what runs: lowered from shapes it computes what the loop computes."""

import jax
import numpy as np
import pytest
import tiny_training as tiny

from vidpref.training.loop import fit
from vidpref.training.sharding import batch_sharding, make_mesh
from vidpref.training.step import put_batch


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 4, "fsdp": 2})


def abstract_batch(mesh):
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tiny.one_batch()
    )


def test_the_step_lowered_from_shapes_is_the_one_that_runs(mesh, tmp_path):
    plan = tiny.plan(mesh, tiny.config(steps=3))
    compiled = plan.lower({}, abstract_batch(mesh)).compile()
    state, batches = plan.create(5), tiny.batches()
    for _ in range(3):
        state, _ = compiled(state, {}, put_batch(next(batches), mesh))
    ran = fit(plan, tiny.batches(), tmp_path, seed=5)
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.ema), (ran.params, ran.ema))


def test_it_holds_the_shapes_and_places_of_the_state(mesh):
    plan = tiny.plan(mesh, tiny.config(reference_decay=0.9))
    state = plan.create(0)
    assert jax.tree.structure(plan.state) == jax.tree.structure(state)
    for wanted, leaf in zip(jax.tree.leaves(plan.state), jax.tree.leaves(state), strict=True):
        assert (wanted.shape, wanted.dtype) == (leaf.shape, leaf.dtype)
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


def test_the_seed_is_that_of_parameters_and_noise(mesh):
    plan = tiny.plan(mesh, tiny.config())
    first, again, other = (plan.create(seed) for seed in (1, 1, 2))
    kernels = [np.asarray(s.params["Dense_0"]["kernel"]) for s in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0
    keys = [jax.random.key_data(s.key).tolist() for s in (first, again, other)]
    assert keys[0] == keys[1] != keys[2]


def test_bad_settings_are_refused_before_anything_is_made(mesh):
    with pytest.raises(ValueError, match=r"align\.steps=0: must be >= 1"):
        tiny.plan(mesh, tiny.config(steps=0), name="align")
