"""Parts trained whole and adapters beside the rest: what moves, what is kept, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_training as tiny
from flax.core import meta
from flax.traverse_util import flatten_dict, unflatten_dict

from vidpref.models.lora import Adapted, LoRA, apply_network, merge
from vidpref.training.loop import fit
from vidpref.training.parts_and_adapters import PartsAndAdapters
from vidpref.training.plan import make_plan
from vidpref.training.sharding import make_mesh
from vidpref.training.tuning import Adapters, Parts

SPEC = LoRA(2, 4.0, ("^Dense_0/",))
PARTS = ("^Dense_1/", "blocks/Dense_0/kernel")
TUNING = PartsAndAdapters(Parts(tiny.init, PARTS), Adapters(tiny.init, SPEC), seed=3)


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), tree)


def loss_fn(trainable, frozen, batch, rng):
    policy = TUNING.policy(trainable, frozen, rng)
    out = apply_network(tiny.TinyNet(), policy, batch["x"])
    return jnp.mean((out - batch["y"]) ** 2), {}


@pytest.fixture(scope="module")
def params():
    return random_like(meta.unbox(jax.eval_shape(tiny.init, jax.random.key(0))), 0)


def test_gradients_are_those_of_the_network_with_both(params):
    start = TUNING.start(params)
    start["adapters"] = random_like(start["adapters"], 1)
    frozen, batch = TUNING.frozen(params), tiny.one_batch()
    kept = {"/".join(path) for path in flatten_dict(frozen["base"])}
    assert not kept & {"/".join(path) for path in flatten_dict(start["parts"])}
    found = jax.grad(lambda p: loss_fn(p, frozen, batch, None)[0])(start)

    def merged(trainable):
        whole = flatten_dict(params) | flatten_dict(trainable["parts"])
        whole = merge(jax.tree.map(jnp.asarray, unflatten_dict(whole)), trainable["adapters"], SPEC)
        out = tiny.TinyNet().apply({"params": whole}, batch["x"])
        return jnp.mean((out - batch["y"]) ** 2)

    expected = jax.grad(merged)(start)
    close = np.testing.assert_allclose
    jax.tree.map(lambda a, b: close(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max()), found, expected)
    whole = TUNING.whole(start, params)
    out = tiny.TinyNet().apply({"params": whole}, batch["x"])
    np.testing.assert_allclose(jnp.mean((out - batch["y"]) ** 2), merged(start), rtol=1e-5)


def test_a_run_moves_parts_and_adapters_and_nothing_else(params, tmp_path):
    mesh = make_mesh({"data": 2, "fsdp": 2}, jax.devices()[:4])
    settings = tiny.config({"learning_rate": 0.1, "warmup_steps": 0}, steps=3)
    plan = make_plan(TUNING, loss_fn, settings, mesh)
    start, before = TUNING.start(params), jax.device_get(params)
    state = fit(plan, tiny.batches(), tmp_path, start=start, frozen=TUNING.frozen(params))
    TUNING.save(tmp_path, state.params, params)
    again = TUNING.load(tmp_path, mesh)
    jax.tree.map(np.testing.assert_array_equal, again, state.params)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start, state.params)
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, before, params)
    adapted = TUNING.adapted(state.params, params)
    jax.tree.map(np.testing.assert_array_equal, adapted.adapters, state.params["adapters"])


def test_adapters_go_on_and_the_reference_is_the_start(params):
    adapters = random_like(TUNING.start(params)["adapters"], 2)
    given = Adapted(params, adapters, SPEC)
    start = TUNING.start(given)
    jax.tree.map(np.testing.assert_array_equal, start["adapters"], adapters)
    frozen = TUNING.frozen(given, given)
    x = tiny.one_batch()["x"]
    outs = [
        apply_network(tiny.TinyNet(), p, x)
        for p in (TUNING.reference(frozen), TUNING.policy(start, frozen, None), given)
    ]
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_allclose(outs[0], outs[2], rtol=1e-6)
    with pytest.raises(ValueError, match="the reference is the network at the start"):
        TUNING.frozen(params, {})


def test_a_layer_is_trained_whole_or_adapted():
    spec = LoRA(2, 4.0, ("^Dense_1/",))
    both = PartsAndAdapters(Parts(tiny.init, PARTS), Adapters(tiny.init, spec))
    with pytest.raises(ValueError, match="Dense_1/kernel is among the parts"):
        jax.eval_shape(both.init, jax.random.key(0))
