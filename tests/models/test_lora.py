"""Adapters against PEFT, against kernels with the product merged in, and off."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.models.conftest import (
    GENERATORS,
    build,
    compiled,
    make_inputs,
    random_params,
    randomize,
)
from vidpref.models.dense import dense
from vidpref.models.lora import Adapted, LoRA, apply_network, merge, merge_into, with_lora
from vidpref.models.scan import scan_blocks
from vidpref.training.sharding import batch_sharding, make_mesh, param_shardings

ATTENTION = r"(self|spatial|temporal|full|cross)/(qkv|query|key_value|out)/"
SPEC = LoRA(rank=2, alpha=6.0, targets=(ATTENTION, r"^condition/.*projection"))

generators = pytest.mark.parametrize("name", GENERATORS)


def _adapters(spec, module, inputs):
    """Returns boxed abstract adapters of a module."""
    base = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return jax.eval_shape(functools.partial(spec.init, base=base), jax.random.key(1))


class _Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jax.nn.silu(dense(7, name="first")(x))
        return dense(4, name="second")(x)


def test_equals_peft():
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 5)).astype(np.float32)
    probe = rng.normal(size=(2, 3, 4)).astype(np.float32)
    module, spec = _Stack(), LoRA(rank=3, alpha=5.0, targets=("first", "second"))
    base = randomize(jax.eval_shape(module.init, jax.random.key(0), x)["params"])
    adapters = randomize(_adapters(spec, module, (x,)), seed=1)

    def loss(adapters):
        out = with_lora(module.apply, spec)({"params": base}, adapters, x)
        return (out * probe).sum(), out

    (_, out), grads = jax.value_and_grad(loss, has_aux=True)(adapters)

    stack = torch.nn.Module()
    stack.first, stack.second = torch.nn.Linear(5, 7), torch.nn.Linear(7, 4)
    stack.forward = lambda x: stack.second(torch.nn.functional.silu(stack.first(x)))
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["first", "second"])
    peft.inject_adapter_in_model(config, stack)
    factors = {}
    with torch.no_grad():
        for name in ("first", "second"):
            layer = getattr(stack, name)
            layer.base_layer.weight.copy_(torch.tensor(np.asarray(base[name]["kernel"].T)))
            layer.base_layer.bias.copy_(torch.tensor(np.asarray(base[name]["bias"])))
            factors[name] = {
                "a": layer.lora_A["default"].weight,
                "b": layer.lora_B["default"].weight,
            }
            for factor, weight in factors[name].items():
                weight.copy_(torch.tensor(np.asarray(adapters[name][factor].T)))
    expected = stack(torch.tensor(x))
    (expected * torch.tensor(probe)).sum().backward()
    np.testing.assert_allclose(out, expected.detach(), atol=1e-5)
    expected_grads = jax.tree.map(lambda weight: weight.grad.T.numpy(), factors)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, expected_grads)


@generators
def test_equals_the_merged_base_in_output_and_gradient(name):
    module, inputs = build(name, remat="full"), make_inputs()
    base = random_params(build(name))
    adapters = randomize(_adapters(SPEC, module, inputs), seed=1)
    adapted = with_lora(module.apply, SPEC)
    probe = jax.random.normal(jax.random.key(5), inputs[0].shape)

    def run(base, adapters):
        out = adapted({"params": base}, adapters, *inputs)
        return (out * probe).sum() / probe.size, out

    def run_merged(base, adapters):
        out = module.apply({"params": merge(base, adapters, SPEC)}, *inputs)
        return (out * probe).sum() / probe.size, out

    step = functools.partial(jax.value_and_grad, argnums=1, has_aux=True)
    (_, out), grads = jax.jit(step(run))(base, adapters)
    (_, merged), merged_grads = jax.jit(step(run_merged))(base, adapters)
    plain = compiled(build(name))(base, *inputs)
    assert jnp.linalg.norm(merged - out) < 5e-6 * jnp.linalg.norm(out)
    assert jnp.linalg.norm(out - plain) > 1e-2 * jnp.linalg.norm(plain)
    for path, grad in flatten_dict(grads).items():
        assert jnp.abs(grad).max() > 1e-6, path
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), grads, merged_grads
    )


@generators
def test_off_is_the_base_bit_for_bit_and_fresh_adapters_start_there(name):
    module, inputs = build(name), make_inputs()
    base = random_params(module)
    boxed = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]

    plain = compiled(module)(base, *inputs)
    run = jax.jit(with_lora(module.apply, SPEC))
    np.testing.assert_array_equal(run({"params": base}, None, *inputs), plain)
    for zero in ("a", "b"):
        fresh = nn.unbox(dataclasses.replace(SPEC, zero=zero).init(jax.random.key(1), boxed))
        # another program, which XLA may fuse in another way
        np.testing.assert_allclose(run({"params": base}, fresh, *inputs), plain, atol=1e-5)
        for path, factor in flatten_dict(fresh).items():
            assert (not factor.any()) == (path[-1] == zero), path


def test_only_the_zero_factor_moves_first():
    module, inputs = build("dit"), make_inputs()
    base = random_params(module)
    boxed = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]

    @jax.jit
    @jax.grad
    def gradient(adapters):
        out = with_lora(module.apply, SPEC)({"params": base}, adapters, *inputs)
        return (out**2).mean()

    for zero in ("a", "b"):
        fresh = nn.unbox(dataclasses.replace(SPEC, zero=zero).init(jax.random.key(1), boxed))
        for path, grad in flatten_dict(gradient(fresh)).items():
            assert bool(grad.any()) == (path[-1] == zero), path


def test_random_factor_has_pefts_variance_and_differs_between_layers():
    kernel = nn.LogicallyPartitioned(jnp.zeros((3, 400, 300)), ("layers", "in", "out"))
    for zero, fan_in in (("b", 400), ("a", 50)):
        spec = LoRA(50, 1.0, ("kernel",), zero=zero)
        drawn = nn.unbox(spec.init(jax.random.key(0), {"dense": {"kernel": kernel}}))["dense"]
        values = drawn["a" if zero == "b" else "b"]
        # kaiming_uniform_(a=sqrt(5)) of torch is uniform in +-1/sqrt(fan in)
        np.testing.assert_allclose(values.var(axis=(1, 2)), 1 / (3 * fan_in), rtol=0.05)
        assert jnp.abs(values).max() <= fan_in**-0.5
        assert jnp.abs(values[0] - values[1]).max() > 0


class _Heads(nn.Module):
    @nn.compact
    def __call__(self, x):
        def init(*names):
            return nn.with_logical_partitioning(nn.initializers.lecun_normal(), names)

        split = nn.DenseGeneral((3, 2), kernel_init=init("in", "heads", "head_dim"), name="split")
        join = nn.DenseGeneral(
            4, axis=(-2, -1), kernel_init=init("heads", "head_dim", "out"), name="join"
        )
        return join(jax.nn.silu(split(x)))


def test_kernels_shaped_by_heads():
    x = jax.random.normal(jax.random.key(0), (2, 7, 5))
    module, spec = _Heads(), LoRA(2, 3.0, ("split", "join"))
    boxed = _adapters(spec, module, (x,))
    axes = {path: (box.names, box.value.shape) for path, box in flatten_dict(boxed).items()}
    assert axes == {
        ("split", "a"): (("in", None), (5, 2)),
        ("split", "b"): ((None, "heads", "head_dim"), (2, 3, 2)),
        ("join", "a"): (("heads", "head_dim", None), (3, 2, 2)),
        ("join", "b"): ((None, "out"), (2, 4)),
    }
    base = randomize(jax.eval_shape(module.init, jax.random.key(0), x)["params"])
    adapters = randomize(boxed, seed=1)
    low = jnp.einsum("btd,dr,rnh->btnh", x, adapters["split"]["a"], adapters["split"]["b"])
    h = jnp.einsum("btd,dnh->btnh", x, base["split"]["kernel"]) + 1.5 * low
    h = jax.nn.silu(h + base["split"]["bias"][None, None])
    low = jnp.einsum("btnh,nhr,rd->btd", h, adapters["join"]["a"], adapters["join"]["b"])
    h = jnp.einsum("btnh,nhd->btd", h, base["join"]["kernel"]) + 1.5 * low
    expected = h + base["join"]["bias"][None, None]
    out = with_lora(module.apply, spec)({"params": base}, adapters, x)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    merged = module.apply({"params": merge(base, adapters, spec)}, x)
    np.testing.assert_allclose(merged, expected, atol=1e-5)


class _Row(nn.Module):
    @nn.compact
    def __call__(self, carry):
        return carry, dense(4, bias=False, name="row")(jnp.ones((8, 4)))


class _BiasedRow(nn.Module):
    @nn.compact
    def __call__(self, carry):
        return carry, dense(2, name="row")(carry)


def test_dropout_is_of_the_key_of_every_layer_and_off_without_one():
    """Base zero, a and b the identity: the output is what dropout makes of ones."""
    module = scan_blocks(_Row, length=3, in_axes=(), remat="full", unroll=False)()
    spec = LoRA(4, 4.0, ("row",), dropout=0.5)
    base = {"row": {"kernel": jnp.zeros((3, 4, 4))}}
    identity = jnp.broadcast_to(jnp.eye(4), (3, 4, 4))
    adapters = {"row": {"a": identity, "b": identity}}
    adapted = with_lora(module.apply, spec)

    def run(key):
        return adapted({"params": base}, adapters, jnp.zeros(()), dropout_rng=key)[1]

    out = run(jax.random.key(0))
    assert set(np.unique(out)) == {0.0, 2.0}
    np.testing.assert_array_equal(out, run(jax.random.key(0)))
    assert (out != run(jax.random.key(1))).any()
    assert (out[0] != out[1]).any()
    mean = jax.vmap(run)(jax.random.split(jax.random.key(2), 500)).mean()
    np.testing.assert_allclose(mean, 1, atol=0.02)
    evaluated = adapted({"params": base}, adapters, jnp.zeros(()))[1]
    np.testing.assert_array_equal(evaluated, jnp.ones((3, 8, 4)))


@pytest.mark.parametrize(
    ("axes", "a_parts", "b_parts"),
    [
        ({"data": 2, "fsdp": 2, "context": 2}, 4, 1),
        ({"data": 4, "tensor": 2}, 1, 2),
        ({"data": 2, "fsdp": 2, "tensor": 2}, 2, 2),
    ],
)
def test_eight_devices_equal_one(axes, a_parts, b_parts):
    module, inputs = build("st_dit", remat="full"), make_inputs()
    x, tau, condition = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), inputs)
    boxed_base = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    boxed = _adapters(SPEC, module, inputs)
    base, adapters = random_params(module), randomize(boxed, seed=1)

    def loss(adapters, base, *inputs):
        return (with_lora(module.apply, SPEC)({"params": base}, adapters, *inputs) ** 2).mean()

    step = jax.jit(jax.value_and_grad(loss))
    value, grads = step(adapters, base, x, tau, condition)
    mesh = make_mesh(axes)
    shardings = param_shardings(boxed, mesh)
    placed = jax.device_put(adapters, shardings)["blocks"]["full"]["qkv"]
    for factor, parts, dimension in (("a", a_parts, 1), ("b", b_parts, 2)):
        whole, shard = placed[factor].shape, placed[factor].addressable_shards[0].data.shape
        assert shard[dimension] == whole[dimension] // parts
    sharded = jax.device_put(
        (adapters, base, (x, tau, condition)),
        (shardings, param_shardings(boxed_base, mesh), batch_sharding(mesh)),
    )
    other_value, other_grads = step(sharded[0], sharded[1], *sharded[2])
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    for path, grad in flatten_dict(grads).items():
        difference = grad - jax.device_get(flatten_dict(other_grads)[path])
        assert jnp.linalg.norm(difference) < 1e-4 * jnp.linalg.norm(grad), path


def test_policy_and_reference_share_one_base_in_memory():
    module, inputs = build("dit", width=192, layers=6, cond_dim=64, remat="full"), make_inputs()
    base = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"])
    adapters = nn.unbox(_adapters(SPEC, module, inputs))
    adapted = with_lora(module.apply, SPEC)

    def loss(adapters, base, *inputs):
        policy = adapted({"params": base}, adapters, *inputs)
        reference = adapted({"params": base}, None, *inputs)
        return ((policy - reference) ** 2).mean()

    def size(tree):
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    program = jax.jit(jax.value_and_grad(loss)).lower(adapters, base, *inputs).compile()
    memory = program.memory_analysis()
    expected = size(base) + size(adapters) + size(inputs)
    assert expected <= memory.argument_size_in_bytes < expected + 0.01 * size(base)
    # nor does the program make a copy: neither a merged base nor the kernels stacked as residuals
    assert memory.temp_size_in_bytes < 0.5 * size(base)
    assert memory.output_size_in_bytes < 2 * size(adapters)


def test_merge_touches_its_kernels_only_and_can_be_undone():
    module, inputs = build("unet3d"), make_inputs()
    base = random_params(module)
    adapters = randomize(_adapters(SPEC, module, inputs), seed=1)
    merged = merge(base, adapters, SPEC)
    before, after = flatten_dict(base), flatten_dict(merged)
    assert before.keys() == after.keys()
    changed = {path[:-1] for path in before if (before[path] != after[path]).any()}
    assert changed == {path[:-1] for path in flatten_dict(adapters)}
    assert len(changed) == 10  # 2 + 2 temporal, 2 spatial, 3 cross, 1 projection of the text
    negative = jax.tree_util.tree_map_with_path(
        lambda path, leaf: -leaf if path[-1].key == "b" else leaf, adapters
    )
    restored = merge(merged, negative, SPEC)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), restored, base)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "lora.rank=0: must be 1 or more"),
        ({"alpha": 0.0}, "lora.alpha=0.0: must be a positive number"),
        ({"targets": ()}, r"lora.targets=\(\): must be one"),
        ({"dropout": 1.0}, r"lora.dropout=1.0: must be in \[0, 1\)"),
        ({"zero": "c"}, "lora.zero='c'"),
        ({"rank": 17}, r"lora.rank=17 is more than blocks/cross/key_value/kernel \[16, 48\]"),
        ({"targets": ("query", "blocks/self/kqv")}, "did you mean blocks/self/qkv/kernel"),
        ({"targets": ("bias",)}, "'bias' matches no dense layer"),
    ],
)
def test_wrong_specs_say_what_is_wrong(fields, message):
    with pytest.raises(ValueError, match=message):
        _adapters(
            LoRA(**{"rank": 2, "alpha": 1.0, "targets": (ATTENTION,), **fields}),
            build("dit"),
            make_inputs(),
        )


def test_merge_rounds_as_pytorch_does():
    """The product, its scale and the sum are rounded one after another."""
    rng = np.random.default_rng(0)
    base, a, b = (rng.normal(size=s).astype(np.float32) for s in ((50, 60), (50, 1), (1, 60)))
    tree = {"row": {"kernel": base}}, {"row": {"a": a, "b": b}}, LoRA(1, 0.7, ("row",))
    expected = base + np.float32(0.7) * (a * b)
    np.testing.assert_array_equal(merge(*tree)["row"]["kernel"], expected)
    on_device = {"row": {"kernel": jnp.asarray(base)}}
    np.testing.assert_array_equal(merge_into(on_device, *tree[1:])["row"]["kernel"], expected)


def test_biases_are_added_and_not_trained_and_padding_stays():
    """Scanned: the first block has rank 1 and no bias, the second rank 3 and one."""
    x, spec = jnp.ones((8, 4)), LoRA(3, 6.0, ("row",), biased=("row",), padded=True)
    module = scan_blocks(_BiasedRow, length=2, in_axes=(), remat="none", unroll=False)()
    boxed = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    base, adapters = randomize(boxed), nn.unbox(spec.init(jax.random.key(1), boxed))["row"]
    assert jax.tree.map(jnp.shape, adapters) == {"a": (2, 4, 3), "b": (2, 3, 2), "bias": (2, 2)}
    adapters = {"row": randomize(adapters, seed=1)}
    there = jnp.array([[1, 0, 0], [1, 1, 1]])
    adapters["row"]["a"] *= there[:, None]
    adapters["row"]["b"] *= there[:, :, None]
    adapters["row"]["bias"] *= jnp.array([[0], [1]])

    def run(adapters):
        return with_lora(module.apply, spec)({"params": base}, adapters, x)[1]

    merged = module.apply({"params": merge(base, adapters, spec)}, x)[1]
    np.testing.assert_allclose(run(adapters), merged, rtol=1e-5, atol=1e-5)
    without = {"row": {**adapters["row"], "bias": jnp.zeros((2, 2))}}
    added = 2.0 * adapters["row"]["bias"][:, None]
    np.testing.assert_allclose(
        run(adapters) - run(without), added + jnp.zeros((2, 8, 2)), atol=1e-5
    )
    gradient = jax.grad(lambda adapters: (run(adapters) ** 2).sum())(adapters)["row"]
    assert not gradient["bias"].any()
    for factor, axes in (("a", (1,)), ("b", (2,))):
        moved = jnp.abs(gradient[factor]).sum(axes) > 0
        np.testing.assert_array_equal(moved, there)


def test_a_bias_needs_one_in_the_base():
    spec, base = LoRA(1, 1.0, ("row",)), {"row": {"kernel": jnp.ones((4, 4))}}
    adapters = {"row": {"a": jnp.ones((4, 1)), "b": jnp.ones((1, 4)), "bias": jnp.ones(4)}}
    with pytest.raises(ValueError, match=r"row has no bias, its adapter one of \(4,\)"):
        merge(base, adapters, spec)
    base["row"]["bias"] = jnp.ones(3)
    with pytest.raises(ValueError, match=r"row has a bias \(3,\), its adapter one of \(4,\)"):
        merge(base, adapters, spec)


def test_convolutions_are_not_adapted():
    with pytest.raises(ValueError, match="'conv_in' matches no dense layer"):
        _adapters(LoRA(2, 1.0, ("conv_in",)), build("unet3d"), make_inputs())


def test_adapters_of_another_network_are_refused():
    module, x = _Stack(), jnp.ones((1, 5))
    spec = LoRA(2, 1.0, ("first",))
    base = randomize(jax.eval_shape(module.init, jax.random.key(0), x)["params"])
    adapters = randomize(_adapters(spec, module, (x,)))
    wrong = {
        "lora: third has no kernel": {"third": adapters["first"]},
        "lora: first has no b": {"first": {"a": adapters["first"]["a"]}},
        r"lora: second/kernel \(7, 4\) does not fit": {"second": adapters["first"]},
    }
    for message, tree in wrong.items():
        for use in (
            lambda tree: with_lora(module.apply, spec)({"params": base}, tree, x),
            lambda tree: merge(base, tree, spec),
        ):
            with pytest.raises(ValueError, match=message):
                use(tree)
    with pytest.raises(ValueError, match="of rank 3"):
        merge(base, adapters, LoRA(3, 1.0, ("first",)))


class _Scored(nn.Module):
    """A network with a second method, as models of language and vision have."""

    def setup(self):
        self.layer = dense(4)

    def __call__(self, x):
        return self.layer(x)

    def score(self, x):
        return self.layer(x).sum(axis=-1)


def test_any_network_is_applied_with_adapters_or_without():
    x = jax.random.normal(jax.random.key(0), (3, 5))
    module, spec = _Scored(), LoRA(2, 3.0, ("layer",))
    base = randomize(jax.eval_shape(module.init, jax.random.key(0), x)["params"])
    adapters = randomize(_adapters(spec, module, (x,)), seed=1)
    merged = merge(base, adapters, spec)
    for method in ("__call__", "score"):
        plain = module.apply({"params": base}, x, method=method)
        for params in (base, Adapted(base, None, spec)):
            out = apply_network(module, params, x, method=method)
            np.testing.assert_array_equal(out, plain)
        out = apply_network(module, Adapted(base, adapters, spec), x, method=method)
        expected = module.apply({"params": merged}, x, method=method)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
        assert np.abs(out - plain).max() > 0.1


def test_dropout_of_an_applied_network_follows_its_key():
    x = jax.random.normal(jax.random.key(0), (3, 5))
    module, spec = _Scored(), LoRA(2, 3.0, ("layer",), dropout=0.5)
    base = randomize(jax.eval_shape(module.init, jax.random.key(0), x)["params"])
    adapters = randomize(_adapters(spec, module, (x,)), seed=1)
    keys = (None, jax.random.key(1), jax.random.key(1), jax.random.key(2))
    off, first, again, other = (
        apply_network(module, Adapted(base, adapters, spec, key), x) for key in keys
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
    assert np.abs(first - off).max() > 0
