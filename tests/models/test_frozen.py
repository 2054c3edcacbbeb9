"""Frozen weights in bfloat16 and in int8: what layers compute from them, and what is kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.models.conftest import build, make_inputs, random_params, randomize
from vidpref.models.frozen import Int8, Keeping, quantise
from vidpref.models.lora import Adapted, LoRA, apply_network
from vidpref.training.sharding import abstract_params, make_mesh

SPEC = LoRA(rank=2, alpha=6.0, targets=(r"(self|cross)/(qkv|query|key_value|out)/",))
MODULE = build("dit", dtype="bfloat16", remat="full")


def network(key, module=MODULE):
    return module.init(key, *make_inputs())["params"]


@functools.cache
def trees():
    """The parameters, and adapters that are not zero."""
    adapters = randomize(
        jax.eval_shape(
            functools.partial(SPEC.init, base=jax.eval_shape(network, jax.random.key(0))),
            jax.random.key(1),
        ),
        seed=1,
    )
    return random_params(MODULE), adapters


@functools.partial(jax.jit, static_argnames="module")
def output_and_gradient(base, adapters, module=MODULE):
    """The output, and the adapters' gradient of a probe of it."""
    probe = jax.random.normal(jax.random.key(5), make_inputs()[0].shape)

    def loss(adapters):
        out = apply_network(module, Adapted(base, adapters, SPEC), *make_inputs())
        return (out * probe).sum(), out

    (_, out), gradient = jax.value_and_grad(loss, has_aux=True)(adapters)
    return out, gradient


def distance(a, b):
    """Norm of the difference over the norm of b, over all leaves."""
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (a, b)]
    return np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])


def test_a_base_in_bfloat16_computes_what_the_float32_base_rounded_does():
    params, adapters = trees()
    kept = Keeping(network, "compute").all(params)
    rounded = jax.tree.map(lambda x, k: k.astype(x.dtype), params, kept)
    found, wanted = (output_and_gradient(base, adapters) for base in (kept, rounded))
    # the compiler may leave out a rounding of either
    assert distance(found, wanted) < 1e-6
    types = {"/".join(path): leaf.dtype for path, leaf in flatten_dict(kept).items()}
    assert types["blocks/self/qkv/kernel"] == types["head/bias"] == jnp.bfloat16
    # what is added, multiplied or normalised with in float32 stays in float32
    wide = {name for name, dtype in types.items() if dtype == jnp.float32}
    assert all("norm" in name.lower() for name in wide), wide


def test_a_network_that_computes_in_float32_is_kept_as_it_is():
    module = build("dit")
    params = random_params(module)
    kept = Keeping(functools.partial(network, module=module), "compute").all(params)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (kept, params)), strict=True))
    kept = Keeping(functools.partial(network, module=module), "float32").all(params)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (kept, params)), strict=True))


def test_the_error_of_int8_is_bounded():
    params, adapters = trees()
    kept = Keeping(network, "int8").all(params)
    flat, stored = flatten_dict(kept), flatten_dict(params)
    integers = {path for path, leaf in flat.items() if isinstance(leaf, Int8)}
    assert {path[0] for path in integers} == {"blocks"}
    for path in integers:
        leaf = flat[path]
        values, scale = np.asarray(leaf.values, np.float64), np.asarray(leaf.scale, np.float64)
        off = np.abs(values * scale[..., None, :] - np.asarray(stored[path], np.float64))
        assert (off <= 0.5001 * scale[..., None, :]).all()
        assert leaf.shape == stored[path].shape
        assert leaf.values.dtype == jnp.int8
    exact = Keeping(network, "compute").all(params)
    found, wanted = (output_and_gradient(base, adapters) for base in (kept, exact))
    errors = [distance(f, w) for f, w in zip(found, wanted, strict=True)]
    assert 0 < errors[0] < 0.065  # measured: 0.013, most of it bfloat16's own
    assert 0 < errors[1] < 0.24  # measured: 0.048


def test_int8_computes_with_integers_times_scales():
    module = build("dit")
    params, adapters = random_params(module), trees()[1]
    kept = Keeping(functools.partial(network, module=module), "int8").all(params)
    plain = {
        path: leaf.values * leaf.scale[..., None, :] if isinstance(leaf, Int8) else leaf
        for path, leaf in flatten_dict(kept).items()
    }
    found = output_and_gradient(kept, adapters, module)
    assert distance(found, output_and_gradient(unflatten_dict(plain), adapters, module)) < 1e-5
    stored = output_and_gradient(params, adapters, module)
    errors = [distance(f, s) for f, s in zip(found, stored, strict=True)]
    assert 0 < errors[0] < 0.03  # measured: 0.0065
    assert 0 < errors[1] < 0.08  # measured: 0.016


def test_int8_of_columns_of_zeros_and_of_one_large_weight():
    kernel = np.zeros((3, 4, 2), np.float32)
    kernel[1, 2, 1] = -6.35
    found = quantise(jnp.asarray(kernel))
    assert found.scale.shape == (3, 2)
    np.testing.assert_array_equal(found.scale[0], 1.0)
    np.testing.assert_allclose(found.scale[1], [1.0, 0.05], rtol=1e-6)
    assert found.values[1, 2, 1] == -127
    assert np.abs(np.asarray(found.values)).sum() == 127


@pytest.mark.parametrize("kind", ["compute", "int8"])
def test_abstract_parameters_are_kept_like_real_ones(kind):
    mesh = make_mesh({"data": 2, "fsdp": 2}, jax.devices()[:4])
    shapes = abstract_params(jax.eval_shape(network, jax.random.key(0)), mesh)
    params = jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), trees()[0], shapes)
    keeping = Keeping(network, kind)
    planned, real = keeping.all(shapes), keeping.all(params)

    def check(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert b.sharding.is_equivalent_to(a.sharding, a.ndim)

    jax.tree.map(check, planned, real)
    if kind == "int8":
        spread = {
            "/".join(path): leaf.scale.sharding.spec
            for path, leaf in flatten_dict(planned).items()
            if isinstance(leaf, Int8)
        }
        assert (
            spread["blocks/mlp_out/kernel"][-1:]
            == planned["blocks"]["mlp_out"]["kernel"].values.sharding.spec[-1:]
        )


def test_what_is_taken_frees_what_was_stored():
    params = jax.tree.map(jnp.copy, trees()[0])
    keeping = Keeping(network, "int8")
    wanted = keeping.all(params)
    taken = keeping.take(params)
    jax.tree.map(np.testing.assert_array_equal, taken, wanted)
    flat, kept = flatten_dict(params), flatten_dict(taken)
    assert flat["blocks", "mlp_in", "kernel"].is_deleted()
    assert all(leaf.is_deleted() for path, leaf in flat.items() if kept[path] is not leaf)
    assert keeping.take(taken) is not None  # once more changes nothing
    jax.tree.map(np.testing.assert_array_equal, keeping.all(taken), wanted)


def test_offloading_gives_the_same_bits():
    full, offload = (
        jax.jit(jax.grad(functools.partial(_squares, build("dit", remat=remat))))
        for remat in ("full", "offload")
    )
    params = random_params(build("dit"))
    jax.tree.map(np.testing.assert_array_equal, full(params), offload(params))
    # what it keeps lies on the host
    kept = offload.trace(params).jaxpr
    assert "<host>" in str(kept)
    assert "<host>" not in str(full.trace(params).jaxpr)


def _squares(module, params):
    return jnp.square(apply_network(module, params, *make_inputs())).mean()
