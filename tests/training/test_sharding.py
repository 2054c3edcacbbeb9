import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
import tiny_training as tiny
from flax.core import meta
from jax.sharding import PartitionSpec as P

from vidpref.training.optimizer import make_optimizer
from vidpref.training.sharding import (
    abstract_params,
    make_mesh,
    param_shardings,
    shardings_like_params,
    whole_dimensions,
)

TOGETHER = ("tensor", "fsdp")


def boxed(shape, *names):
    return {"layer": nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": -1, "fsdp": 2, "tensor": 2})


def spec(shape, names, mesh):
    return param_shardings(boxed(shape, *names), mesh)["layer"].spec


def test_mesh_sizes():
    mesh = make_mesh({"data": -1, "fsdp": 2})
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "context": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"model": 2}, "mesh.model: no such axis"),
        ({"data": -1, "fsdp": -1}, "one of them may be -1"),
        ({"data": -1, "fsdp": 3}, "a multiple of 3 devices, and there are 8"),
        ({"data": 2, "fsdp": 2}, "needs 4 devices, and there are 8"),
        ({"data": 0}, "sizes are at least 1"),
    ],
)
def test_mesh_errors(sizes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(sizes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("in", "out"), P(None, TOGETHER)),
        (("in", "heads", "head_dim"), P(None, TOGETHER, None)),
        (("heads", "head_dim", "out"), P(TOGETHER, None, None)),
        (("heads", "out"), P(TOGETHER, None)),
        (("layers", "kernel", "kernel", "in", "out"), P(None, None, None, None, TOGETHER)),
        (("vocab", "embed"), P(TOGETHER, None)),
        (("layers", "embed"), P(None, "fsdp")),
        ((None, "out"), P(None, "tensor")),
    ],
)
def test_rules(names, expected, mesh):
    assert spec((4,) * len(names), names, mesh) == expected


@pytest.mark.parametrize("sizes", [{"data": -1, "fsdp": 2}, {"data": -1, "tensor": 2}])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("in", "out"), P("fsdp", "tensor")),
        (("in", "heads", "head_dim"), P("fsdp", "tensor", None)),
        (("heads", "head_dim", "out"), P("tensor", None, "fsdp")),
        (("vocab", "embed"), P("tensor", "fsdp")),
    ],
)
def test_without_both_axes_each_has_its_dimension(names, expected, sizes):
    assert spec((4,) * len(names), names, make_mesh(sizes)) == expected


@pytest.mark.parametrize(
    ("sizes", "shape", "expected"),
    [
        ({"fsdp": 2, "context": 4}, (8, 4), P(("fsdp", "context"), "tensor")),
        ({"fsdp": 2, "context": 4}, (4, 4), P("fsdp", "tensor")),
        ({"context": 8}, (8, 4), P("context", "tensor")),
        ({"context": 8}, (4, 8), P(None, "tensor")),
        ({"fsdp": 2, "context": 2, "tensor": 2}, (4, 8), P(None, ("tensor", "fsdp", "context"))),
        ({"fsdp": 2, "context": 2, "tensor": 2}, (4, 4), P(None, ("tensor", "fsdp"))),
        ({"context": 4, "tensor": 2}, (4, 8), P(None, ("tensor", "context"))),
    ],
)
def test_context_divides_what_fsdp_divides(sizes, shape, expected):
    assert spec(shape, ("in", "out"), make_mesh(sizes)) == expected


def test_what_context_leaves_whole_is_reported():
    (line,) = whole_dimensions(boxed((4, 4), "in", "out"), make_mesh({"fsdp": 2, "context": 4}))
    assert "dimension 0 ('in') is not a multiple of fsdp*context=8" in line


def test_a_dimension_that_both_axes_do_not_divide_is_split_by_tensor_alone(mesh):
    assert spec((8, 6), ("in", "out"), mesh) == P(None, "tensor")
    (line,) = whole_dimensions(boxed((8, 6), "in", "out"), mesh)
    assert "layer" in line
    assert "dimension 1 ('out') is not a multiple of tensor*fsdp=4" in line


def test_a_dimension_that_does_not_divide_stays_whole_and_is_reported(mesh):
    assert spec((3, 4), ("in", "out"), mesh) == P(None, "tensor")
    (line,) = whole_dimensions(boxed((3, 4), "in", "out"), mesh)
    assert "layer" in line
    assert "dimension 0 ('in') is not a multiple of fsdp=2" in line
    assert whole_dimensions(boxed((4, 4), "in", "out"), mesh) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("in", "embed"), r"dimension 1 \('embed'\) wants mesh axis fsdp"),
        (("in", "width"), "no rule for 'width'"),
        (("in",), "1 logical names for 2 dimensions"),
    ],
)
def test_rule_errors_name_the_parameter(names, message, mesh):
    with pytest.raises(ValueError, match=message) as error:
        spec((4, 4), names, mesh)
    assert "parameter layer" in str(error.value)


def test_scanned_network(mesh):
    abstract = jax.eval_shape(tiny.init, jax.random.key(0))
    shardings = param_shardings(abstract, mesh)
    assert shardings["blocks"]["Dense_0"]["kernel"].spec == P(None, None, TOGETHER)
    assert shardings["blocks"]["Dense_1"]["kernel"].spec == P(None, TOGETHER, None)
    target = abstract_params(abstract, mesh)
    assert jax.tree.structure(target) == jax.tree.structure(meta.unbox(abstract))
    assert jax.tree.map(lambda x: x.sharding, target) == shardings


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_optimizer_state_lies_where_its_parameters_lie(name, mesh):
    abstract = jax.eval_shape(tiny.init, jax.random.key(0))
    params, shardings = meta.unbox(abstract), param_shardings(abstract, mesh)
    optimizer = make_optimizer(tiny.config({"name": name}).optimizer, lambda _: 0.1, abstract)
    state = jax.eval_shape(optimizer.init, params)
    got = shardings_like_params(state, params, shardings, mesh)
    by_path = {
        tuple(str(key) for key in path): (leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(shardings), strict=True
        )
    }
    copies = 0
    for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(got), strict=True
    ):
        moments = [i for i, key in enumerate(path) if str(key) in (".mu", ".nu")]
        if not moments:
            assert sharding.spec == P(), path
            continue
        owner = tuple(str(key) for key in path[moments[0] + 1 :])
        assert (leaf.shape, sharding) == by_path[owner], path
        copies += 1
    biases, kernels = 4, 4
    assert copies == (2 * biases + kernels if name == "muon" else 2 * (biases + kernels))
