"""What holds for every generator: conditions, axis names, precision, scans, errors."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import (
    GENERATORS,
    build,
    compiled,
    init,
    make_condition,
    make_inputs,
    random_params,
)

generators = pytest.mark.parametrize("name", GENERATORS)


@generators
def test_output_starts_at_the_residual_base(name, inputs):
    module = build(name)
    params = init(module, *inputs)
    assert (compiled(module)(params, *inputs) == 0).all()
    out = compiled(build(name, residual="first_frame"))(params, *inputs)
    frame = inputs[2].first_frame[:, None]
    np.testing.assert_array_equal(out, jnp.broadcast_to(frame, out.shape))


@generators
def test_masked_tokens_change_nothing_and_real_ones_do(name, inputs):
    x, tau, condition = inputs
    module = build(name)
    params, run = random_params(module), compiled(module)
    out = run(params, *inputs)
    other = jnp.where(condition.text_mask[..., None], condition.text, 99.0)
    same = run(params, x, tau, condition.replace(text=other))
    np.testing.assert_array_equal(out, same)
    other = condition.text.at[:, 0].multiply(-1.0)
    assert jnp.abs(out - run(params, x, tau, condition.replace(text=other))).max() > 1e-3


@generators
def test_without_text_does_not_depend_on_the_text(name, inputs):
    x, tau, condition = inputs
    module = build(name)
    params, run = random_params(module), compiled(module)
    unconditional = condition.without_text()
    out = run(params, x, tau, unconditional)
    other = unconditional.replace(text=-condition.text)
    np.testing.assert_array_equal(out, run(params, x, tau, other))
    assert jnp.abs(out - run(params, *inputs)).max() > 1e-3


@generators
def test_every_condition_is_used_by_its_own_clip_only(name):
    x, tau, condition = make_inputs(low_res=True)
    module = build(name, low_res=True)
    params, run = random_params(module, low_res=True), compiled(module)
    out = run(params, x, tau, condition)

    def difference(x=x, tau=tau, **fields):
        return jnp.abs(run(params, x, tau, condition.replace(**fields)) - out).max((1, 2, 3, 4))

    changes = {"x": x.at[1].add(1.0), "tau": tau.at[1].add(0.1)}
    for field in ("first_frame", "low_res", "low_res_tau"):
        changes[field] = getattr(condition, field).at[1].add(0.2)
    for field, value in changes.items():
        first, second = difference(**{field: value})
        assert first < 1e-6, field
        assert second > 1e-4, field


@generators
def test_every_parameter_has_one_axis_name_a_dimension(name):
    module = build(name, low_res=True)
    condition = make_condition(0, 1, low_res=True)
    variables = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, 4, 8, 8, 3)), jnp.zeros(1), condition
    )
    boxes = jax.tree.leaves(variables["params"], is_leaf=lambda x: isinstance(x, nn.Partitioned))
    known = {"layers", "in", "out", "heads", "head_dim", "kernel", "embed", "vocab", None}
    stacked = 0
    for box in boxes:
        assert isinstance(box, nn.Partitioned)
        assert len(box.names) == box.value.ndim
        assert set(box.names) <= known
        assert "layers" not in box.names[1:]
        stacked += box.names[0] == "layers"
    assert stacked > 10


@generators
def test_bfloat16_computes_near_float32_with_float32_parameters(name, inputs):
    exact, half = build(name), build(name, dtype="bfloat16")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(init(half, *inputs)))
    params = random_params(exact)
    expected, out = compiled(exact)(params, *inputs), compiled(half)(params, *inputs)
    assert out.dtype == jnp.float32
    error = jnp.sqrt(jnp.mean((out - expected) ** 2) / jnp.mean(expected**2))
    assert 1e-5 < error < 0.05


@functools.cache
def _loss_and_gradient(name, remat="none", unroll=False):
    module = build(name, remat=remat, unroll=unroll)

    def loss(params):
        return (module.apply({"params": params}, *make_inputs()) ** 2).mean()

    return jax.jit(jax.value_and_grad(loss))(random_params(build(name)))


@generators
@pytest.mark.parametrize(
    "fields",
    [
        {"unroll": True},
        {"remat": "full"},
        pytest.param({"remat": "dots_saveable"}, marks=pytest.mark.slow),
    ],
)
def test_unroll_and_remat_change_neither_output_nor_gradient(name, fields):
    value, grads = _loss_and_gradient(name)
    other_value, other_grads = _loss_and_gradient(name, **fields)
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), grads, other_grads
    )
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


@generators
def test_chunked_attention_is_the_same_network(name, inputs):
    module = build(name)
    chunked = build(name, attention="chunked")
    params = random_params(module)
    expected = compiled(module)(params, *inputs)
    np.testing.assert_allclose(expected, compiled(chunked)(params, *inputs), atol=1e-5)


@generators
@pytest.mark.parametrize(
    ("fields", "change", "message"),
    [
        ({}, {"text": jnp.zeros((2, 5, 9))}, "width 9, the network was built for 6"),
        ({}, {"first_frame": None}, "condition.first_frame is missing"),
        ({"first_frame": False}, {}, "condition.first_frame is given"),
        ({"low_res": True}, {}, "condition.low_res is missing"),
        ({"residual": "low_res"}, {}, "residual='low_res' must be"),
        ({"patch": (1, 3, 3)}, {}, "must be a multiple of"),
        ({"remat": "dots_savable"}, {}, "did you mean dots_saveable"),
    ],
)
def test_wrong_calls_say_what_is_wrong(name, inputs, fields, change, message):
    x, tau, condition = inputs
    with pytest.raises(ValueError, match=message):
        build(name, **fields).init(jax.random.key(0), x, tau, condition.replace(**change))
