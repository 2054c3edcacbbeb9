import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training as tiny
import torch

from vidpref.models.lora import LoRA
from vidpref.training.optimizer import (
    check_optimizer,
    learning_rate_schedule,
    make_optimizer,
    matrix_dimensions,
)

STEPS = 20


def boxed(names):
    return {key: nn.LogicallyPartitioned(jnp.zeros((2,) * len(n)), n) for key, n in names.items()}


def optimizer_config(**fields):
    return tiny.config(fields).optimizer


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_schedule_equals_optax(decay, warmup):
    c = optimizer_config(learning_rate=0.3, warmup_steps=warmup, decay=decay)
    fall = {
        "constant": optax.constant_schedule(0.3),
        "linear": optax.linear_schedule(0.3, 0.0, STEPS - warmup),
        "cosine": optax.cosine_decay_schedule(0.3, STEPS - warmup),
    }[decay]
    rise = optax.linear_schedule(0.0, 0.3, max(warmup, 1))
    schedule = learning_rate_schedule(c, STEPS)
    for step in range(STEPS + 3):
        expected = rise(step + 1) if step < warmup else fall(step - warmup)
        np.testing.assert_allclose(schedule(jnp.int32(step)), expected, rtol=1e-6, atol=1e-9)


def run_jax(c, params, gradients, names):
    schedule = learning_rate_schedule(c, len(gradients))
    optimizer = make_optimizer(c, schedule, jax.tree.map(lambda x: x, names))
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for g in gradients:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def run_torch(c, params, gradients):
    tensors = {k: torch.nn.Parameter(torch.tensor(np.asarray(v))) for k, v in params.items()}
    groups = [
        {"params": [t], "weight_decay": c.weight_decay if k == "kernel" else 0.0}
        for k, t in tensors.items()
    ]
    kind = torch.optim.Adam if c.name == "adam" else torch.optim.AdamW
    optimizer = kind(groups, lr=c.learning_rate, betas=(c.b1, c.b2))
    schedule = learning_rate_schedule(c, len(gradients))
    for step, g in enumerate(gradients):
        for k, t in tensors.items():
            t.grad = torch.tensor(np.asarray(g[k]))
        if c.clip_norm:
            torch.nn.utils.clip_grad_norm_(list(tensors.values()), c.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = float(schedule(step))
        optimizer.step()
    return {k: t.detach().numpy() for k, t in tensors.items()}


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_adam_equals_torch(name, clip_norm):
    c = optimizer_config(
        name=name,
        learning_rate=0.05,
        warmup_steps=3,
        decay="linear",
        clip_norm=clip_norm,
        weight_decay=0.1 if name == "adamw" else 0.0,
        b1=0.8,
        b2=0.95,
    )
    rng = np.random.default_rng(0)
    names = boxed({"kernel": ("in", "out"), "bias": ("out",)})
    draw = lambda: {  # noqa: E731
        "kernel": rng.normal(size=(4, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
    }
    params, gradients = draw(), [draw() for _ in range(STEPS)]
    got, expected = run_jax(c, params, gradients, names), run_torch(c, params, gradients)
    for key in params:
        np.testing.assert_allclose(got[key], expected[key], rtol=1e-4, atol=2e-6)


def test_which_parameters_are_matrices():
    names = {
        "dense": ("in", "out"),
        "stacked": ("layers", "in", "out"),
        "conv": ("layers", "kernel", "kernel", "in", "out"),
        "query": ("in", "heads", "head_dim"),
        "attention_out": ("layers", "heads", "head_dim", "out"),
        "projection": ("in", "heads"),
        "bias": ("layers", "out"),
        "scale": ("layers", "embed"),
        "table": ("vocab", "embed"),
    }
    expected = {
        "dense": ((0,), (1,)),
        "stacked": ((1,), (2,)),
        "conv": ((1, 2, 3), (4,)),
        "query": ((0,), (1, 2)),
        "attention_out": ((1, 2), (3,)),
        "projection": ((0,), (1,)),
        "bias": None,
        "scale": None,
        "table": None,
    }
    got = matrix_dimensions(boxed(names))
    assert {k: v if v is None else tuple(v) for k, v in got.items()} == expected
    plain = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3), "table": jnp.zeros((5, 3))}
    got = matrix_dimensions(plain)
    assert got["bias"] is None
    assert got["table"] is None
    assert tuple(got["kernel"]) == ((0,), (1,))


def test_the_factors_of_a_lora_are_matrices_whatever_their_axes_are_called():
    axes = {"query": ("layers", "in", "heads"), "out": ("layers", "heads", "out")}
    base = {
        name: {"kernel": nn.LogicallyPartitioned(jnp.zeros((3, 8, 8)), names)}
        for name, names in axes.items()
    }
    adapters = LoRA(2, 2.0, ("query", "out")).init(jax.random.key(0), base)
    for layer in matrix_dimensions(adapters).values():
        assert tuple(layer["a"]) == tuple(layer["b"]) == ((1,), (2,))


def muon_update(names, gradient, **fields):
    c = optimizer_config(name="muon", clip_norm=0.0, b2=0.95, **fields)
    named = {k: nn.LogicallyPartitioned(jnp.zeros_like(v), names[k]) for k, v in gradient.items()}
    optimizer = make_optimizer(c, lambda _: c.learning_rate, named)
    params = jax.tree.map(jnp.zeros_like, gradient)
    return jax.jit(lambda g: optimizer.update(g, optimizer.init(params), params)[0])(gradient)


def test_muon_takes_stacked_layers_one_by_one():
    gradient = jax.random.normal(jax.random.key(0), (3, 8, 4))
    stacked = muon_update({"kernel": ("layers", "in", "out")}, {"kernel": gradient})["kernel"]
    alone = optax.contrib.muon(1e-2)
    one_layer = jax.jit(lambda g: alone.update(g, alone.init(g), g)[0])
    for layer in range(3):
        expected = one_layer(gradient[layer])
        np.testing.assert_allclose(stacked[layer], expected, atol=1e-6)
        values = np.linalg.svd(np.asarray(stacked[layer]), compute_uv=False) / 1e-2
        assert np.all((values > 0.6) & (values < 1.3)), values


def test_muon_flattens_convolutions():
    gradient = jax.random.normal(jax.random.key(0), (2, 3, 3, 4, 5))
    names = ("layers", "kernel", "kernel", "in", "out")
    got = muon_update({"kernel": names}, {"kernel": gradient})["kernel"]
    flat = muon_update({"kernel": ("layers", "in", "out")}, {"kernel": gradient.reshape(2, 36, 5)})
    np.testing.assert_allclose(got.reshape(2, 36, 5), flat["kernel"], atol=1e-6)


def test_muon_gives_the_rest_to_adam():
    names = {"stem": ("in", "out"), "block": ("in", "out"), "bias": ("out",)}
    gradient = {k: jnp.full((2,) * len(n), 0.5) for k, n in names.items()}
    got = muon_update(names, gradient, adam_layers="^stem", adam_learning_rate=1e-3)
    adam = optax.nadamw(1e-3, b1=0.9, b2=0.95, weight_decay=0.0)
    expected, _ = adam.update(gradient, adam.init(gradient), gradient)
    np.testing.assert_allclose(got["bias"], expected["bias"], rtol=1e-5)
    np.testing.assert_allclose(got["stem"], expected["stem"], rtol=1e-5)
    # Muon's update of this rank-one gradient has one singular value in [0.68, 1.13].
    assert 0.6e-2 < jnp.linalg.norm(got["block"]) < 1.3e-2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "sgd"}, "train: optimizer.name='sgd': known are adam, adamw, muon"),
        ({"decay": "exp"}, "optimizer.decay='exp'"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate=0.0: must be > 0"),
        ({"learning_rate": float("nan")}, "optimizer.learning_rate=nan: must be finite"),
        ({"warmup_steps": -1}, "optimizer.warmup_steps=-1"),
        ({"clip_norm": -1.0}, "optimizer.clip_norm=-1.0"),
        ({"b2": 1.0}, r"optimizer.b2=1.0: must be in \[0, 1\)"),
        ({"weight_decay": 0.1}, "adam has no weight decay"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        check_optimizer(optimizer_config(**fields), "train: optimizer")
