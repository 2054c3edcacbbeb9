"""Chosen parts and adapters of a small network: what is trained, kept, saved and compared with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_training as tiny
from flax.core import meta
from flax.traverse_util import flatten_dict

from vidpref.config.align import Align
from vidpref.config.fields import build
from vidpref.config.training import Lora
from vidpref.models.lora import Adapted, LoRA, apply_network, merge
from vidpref.training.checkpoints import load_params
from vidpref.training.loop import fit
from vidpref.training.metrics import read_metrics
from vidpref.training.plan import make_plan
from vidpref.training.sharding import abstract_params, make_mesh
from vidpref.training.tuning import Adapters, Everything, Parts, make_tuning

PATTERNS = ("^Dense_1/", "blocks/Dense_0/kernel")
CHOSEN = {"Dense_1/kernel", "Dense_1/bias", "blocks/Dense_0/kernel"}
PARTS = Parts(tiny.init, PATTERNS)
LORA = Adapters(tiny.init, LoRA(2, 4.0, ("^Dense_",)))
KINDS = {"everything": Everything(tiny.init), "lora": LORA, "parts": PARTS}


def names(tree):
    return {"/".join(path) for path in flatten_dict(tree)}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), tree)


def loss_of(tuning):
    """The error of the policy, held to the reference; says how far from it its output is."""

    def loss_fn(trainable, frozen, batch, rng):
        policy = tuning.policy(trainable, frozen, rng)
        reference = tuning.reference(frozen)
        out, held = (
            apply_network(tiny.TinyNet(), p, batch["x"])
            for p in (policy, jax.lax.stop_gradient(reference))
        )
        distance = jnp.mean((out - held) ** 2)
        return jnp.mean((out - batch["y"]) ** 2) + 0.1 * distance, {"distance": distance}

    return loss_fn


def run(folder, tuning, params, reference=None, **settings):
    mesh = make_mesh({"data": 2, "fsdp": 2}, jax.devices()[:4])
    optimizer = {"learning_rate": 0.1, "warmup_steps": 0}
    settings = tiny.config(optimizer, **{"steps": 4} | settings)
    plan = make_plan(tuning, loss_of(tuning), settings, mesh)
    frozen = tuning.frozen(params, reference)
    return fit(plan, tiny.batches(), folder, start=tuning.start(params), frozen=frozen)


@pytest.fixture(scope="module")
def params():
    return random_like(meta.unbox(jax.eval_shape(tiny.init, jax.random.key(0))), 0)


def test_gradients_of_parts_are_those_of_the_whole_network(params):
    batch, everything = tiny.one_batch(), KINDS["everything"]
    frozen = PARTS.frozen(params, params)
    of_parts = jax.grad(lambda p: loss_of(PARTS)(p, frozen, batch, None)[0])(PARTS.start(params))
    frozen = everything.frozen(params, params)
    of_all = jax.grad(lambda p: loss_of(everything)(p, frozen, batch, None)[0])(params)
    assert names(of_parts) == CHOSEN
    found, expected = flatten_dict(of_parts), flatten_dict(of_all)
    for path, gradient in found.items():
        assert np.abs(gradient).max() > 0
        np.testing.assert_allclose(gradient, expected[path], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("tuning", [LORA, PARTS], ids=["lora", "parts"])
def test_no_gradient_reaches_what_is_frozen(tuning, params):
    trainable, batch = meta.unbox(tuning.init(jax.random.key(0))), tiny.one_batch()
    frozen = tuning.frozen(params, params)
    gradient = jax.grad(lambda f: loss_of(tuning)(trainable, f, batch, None)[0])(frozen)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_other_parameters_keep_their_bits_and_the_whole_network_is_saved(params, tmp_path):
    before = jax.device_get(params)
    state = run(tmp_path, PARTS, params, params)
    PARTS.save(tmp_path, state.params, params)
    mesh = make_mesh({}, jax.devices()[:1])
    boxed = jax.eval_shape(tiny.init, jax.random.key(0))
    saved = flatten_dict(load_params(tmp_path / "params", abstract_params(boxed, mesh)))
    assert {"/".join(p) for p in saved} == names(params)
    moved = {"/".join(p) for p, x in saved.items() if np.any(x != flatten_dict(before)[p])}
    assert moved == CHOSEN
    same(jax.device_get(PARTS.load(tmp_path, mesh)), jax.device_get(state.params))
    same(params, before)


def test_the_state_holds_the_parts_alone(params, tmp_path):
    state = run(tmp_path, PARTS, params, params, steps=1, reference_decay=0.9)
    assert names(state.params) == names(state.ema) == names(state.reference) == CHOSEN
    shapes = {leaf.shape for leaf in flatten_dict(state.params).values()}
    moments = [x.shape for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert len(moments) == 2 * len(CHOSEN)  # Adam's two
    assert set(moments) == shapes


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_start_unless_another_is_given(kind, params, tmp_path):
    tuning = KINDS[kind]
    run(tmp_path / "own", tuning, params, params)
    first, *_, last = (line["distance"] for line in read_metrics(tmp_path / "own"))
    assert first == pytest.approx(0.0, abs=1e-7)
    assert last > 1e-3

    other = jax.tree.map(lambda x: 1.1 * x, params)
    run(tmp_path / "other", tuning, params, other, steps=1)
    x = next(tiny.batches())["x"]
    out, held = (apply_network(tiny.TinyNet(), p, x) for p in (params, other))
    expected = np.mean((np.asarray(out) - np.asarray(held)) ** 2)
    (line,) = read_metrics(tmp_path / "other")
    assert line["distance"] == pytest.approx(expected, rel=1e-4)


def test_adapters_are_trained_on_from_where_they_are(params, tmp_path):
    """The policy and its reference start with them; zeros in both factors stay."""
    adapters = random_like(meta.unbox(jax.eval_shape(LORA.init, jax.random.key(0))), 3)
    adapters["Dense_0"]["a"] = adapters["Dense_0"]["a"].at[:, 1].set(0)
    adapters["Dense_0"]["b"] = adapters["Dense_0"]["b"].at[1].set(0)
    start = Adapted(params, LORA.place(adapters, make_mesh({}, jax.devices()[:1])), LORA.spec)
    same(LORA.start(start), adapters)
    x = tiny.one_batch()["x"]
    before = apply_network(tiny.TinyNet(), Adapted(params, adapters, LORA.spec), x)
    frozen = LORA.frozen(start, start)
    np.testing.assert_array_equal(apply_network(tiny.TinyNet(), LORA.reference(frozen), x), before)
    state = run(tmp_path, LORA, start, start)
    first, *_, last = (line["distance"] for line in read_metrics(tmp_path))
    assert first == pytest.approx(0.0, abs=1e-9)
    assert last > 1e-3
    trained = jax.device_get(state.params)
    assert not trained["Dense_0"]["a"][:, 1].any()
    assert not trained["Dense_0"]["b"][1].any()
    assert np.abs(trained["Dense_0"]["a"][:, 0] - adapters["Dense_0"]["a"][:, 0]).min() > 0
    same(LORA.whole(state.params, start), merge(params, state.params, LORA.spec))


@pytest.mark.parametrize("kind", KINDS)
def test_a_reference_that_follows_has_what_was_trained_before(kind, params, tmp_path):
    """With a decay of almost nothing the reference is the policy of the step before."""
    tuning = KINDS[kind]
    state = run(tmp_path, tuning, params, steps=3, reference_decay=1e-6)
    frozen = tuning.frozen(params) | {"reference": state.reference}
    followed, trained, start = (
        apply_network(tiny.TinyNet(), p, tiny.one_batch()["x"])
        for p in (tuning.reference(frozen), tuning.whole(state.params, params), params)
    )
    np.testing.assert_allclose(followed, trained, rtol=1e-3, atol=1e-2)
    assert np.abs(trained - start).max() > 0.1
    first, *later = (line["distance"] for line in read_metrics(tmp_path))
    assert first == pytest.approx(0.0, abs=1e-9)  # it starts as a copy
    assert max(later) < 1e-3 * float(jnp.mean((trained - start) ** 2))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_is_loaded(kind, params, tmp_path):
    tuning = KINDS[kind]
    trained = random_like(meta.unbox(jax.eval_shape(tuning.init, jax.random.key(0))), 1)
    tuning.save(tmp_path, trained, params)
    assert (tmp_path / ("adapters" if kind == "lora" else "params")).is_dir()
    mesh = make_mesh({"fsdp": 2}, jax.devices()[:2])
    loaded = tuning.load(tmp_path, mesh)
    same(jax.device_get(loaded), jax.device_get(trained))
    assert all(x.sharding.mesh == mesh for x in jax.tree.leaves(loaded))


def test_the_whole_of_adapters_is_the_merged_base(params):
    adapters = random_like(meta.unbox(LORA.init(jax.random.key(0))), 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        LORA.whole(adapters, params),
        merge(params, adapters, LORA.spec),
    )


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("blocks/Dense_7/kernel", r"'blocks/Dense_7/kernel' matches no parameter.*blocks/Dense_1"),
        ("^zzz$", r"matches no parameter; known: .*Dense_0/bias"),
        ("(", r"parts: '\(' is no regular expression"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_named(pattern, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(Parts(tiny.init, ("Dense_0", pattern)).init, jax.random.key(0))


def test_a_section_chooses_what_is_tuned():
    def chosen(rank=0, parts=()):
        lora = Lora(rank=rank, alpha=4.0, targets=("^Dense_",))
        return make_tuning(tiny.init, build(Align(lora=lora, parts=parts)))

    assert chosen() == KINDS["everything"]
    assert chosen(rank=2) == dataclasses.replace(LORA, base="compute")
    assert chosen(parts=PATTERNS) == PARTS
    with pytest.raises(ValueError, match=r"align\.parts=.* with config\.align\.lora\.rank=2"):
        chosen(rank=2, parts=PATTERNS)
