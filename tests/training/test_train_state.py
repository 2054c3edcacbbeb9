import jax
import numpy as np
import pytest
import tiny_training as tiny

from vidpref.training.optimizer import make_optimizer
from vidpref.training.sharding import make_mesh
from vidpref.training.state import create_state, state_shardings


def build(mesh, name="adam", **options):
    boxed = jax.eval_shape(tiny.init, jax.random.key(0))
    optimizer = make_optimizer(tiny.config({"name": name}).optimizer, lambda _: 0.1, boxed)
    abstract, shardings = state_shardings(tiny.init, optimizer, mesh, with_ema=True)
    return abstract, create_state(tiny.init, optimizer, shardings, seed=0, **options)


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_born_sharded(name):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    abstract, state = build(mesh, name)
    kernel = state.params["blocks"]["Dense_0"]["kernel"]
    assert kernel.shape == (3, tiny.WIDTH, 2 * tiny.WIDTH)
    shards = {s.data.shape for s in kernel.addressable_shards}
    assert shards == {(3, tiny.WIDTH, 2 * tiny.WIDTH // 4)}  # tensor and fsdp on the heads
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        assert (leaf.shape, leaf.dtype) == (wanted.shape, wanted.dtype)
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
    full = sum(x.nbytes for x in jax.tree.leaves(state.params))
    first = jax.devices()[0]
    own = sum(
        s.data.nbytes
        for x in jax.tree.leaves((state.params, state.opt_state, state.ema))
        for s in x.addressable_shards
        if s.device == first
    )
    copies = 4 if name == "adam" else 3.2
    assert own < copies * full / 3  # four shards each, but for the small biases


def test_parameters_do_not_depend_on_the_mesh():
    _, sharded = build(make_mesh({"data": 2, "fsdp": 2, "tensor": 2}))
    _, single = build(make_mesh({}, jax.devices()[:1]))
    same(sharded.params, single.params)
    same(sharded.ema, sharded.params)


def test_fine_tuning_copies_what_it_is_given():
    mesh = make_mesh({"data": 4, "fsdp": 2})
    _, given = build(mesh)
    _, state = build(mesh, init_from=given.params)
    same(state.params, given.params)
    for mine, theirs in zip(
        jax.tree.leaves((state.params, state.ema)),
        jax.tree.leaves((given.params, given.params)),
        strict=True,
    ):
        for a, b in zip(mine.addressable_shards, theirs.addressable_shards, strict=True):
            assert a.data.unsafe_buffer_pointer() != b.data.unsafe_buffer_pointer()


def test_parameters_that_do_not_fit_are_named():
    _, given = build(make_mesh({}, jax.devices()[:1]))
    params = {**given.params, "extra": np.zeros(3)}
    params["Dense_0"] = {"kernel": np.zeros((2, 2), np.float32)}
    with pytest.raises(ValueError, match=r"do not fit the model \(3\)") as error:
        build(make_mesh({"data": 8}), init_from=params)
    for part in ("Dense_0/bias (16,) is missing", "extra (3,) is not in", "(2, 2), the model (8"):
        assert part in str(error.value)
