"""Wan's transformer against diffusers', forward and gradient, with small random weights."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.wan_examples import PUBLISHED, T2V, TRANSFORMERS
from vidpref.interop.table import to_params, to_tensors
from vidpref.interop.wan import transformer_table
from vidpref.models.condition import Condition
from vidpref.models.wan import sizes as wan_sizes
from vidpref.models.wan.network import Wan

torch = pytest.importorskip("torch")
wan = pytest.importorskip("diffusers.models.transformers.transformer_wan")
parity = pytest.importorskip("tests.models.torch_parity")

TOLERANCE = 1e-4


def _inputs(config: dict, shape: tuple[int, ...], text_tokens: int):
    """Returns (x [b, t, h, w, c], tau, condition), the text zero behind its mask."""
    rng = np.random.default_rng(0)
    b = shape[0]

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    # many keys behind the mask are alike, and the gradients of their biases nothing but rounding
    mask = np.arange(text_tokens)[None] < np.array([text_tokens, text_tokens * 3 // 4])[:b, None]
    with_image = config["image_dim"] is not None
    condition = Condition(
        text=normal(b, text_tokens, config["text_dim"]) * mask[..., None],
        text_mask=mask,
        image_latent=normal(*shape, config["in_channels"] - 4) if with_image else None,
        image_states=normal(b, 6, config["image_dim"]) if with_image else None,
    )
    return normal(*shape, 4), np.array([0.999, 0.25], np.float32)[:b], condition


def _torch_call(model, x, tau, condition):
    """Returns the output [b, t, h, w, c] and the inputs that have gradients."""
    leaves = {"x": x, "text": condition.text}
    if condition.image_latent is not None:
        leaves |= {"image_latent": condition.image_latent, "image_states": condition.image_states}
    leaves = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in leaves.items()}
    channels = [leaves[name] for name in ("x", "image_latent") if name in leaves]
    states = leaves.get("image_states")
    out = model(
        torch.cat(channels, dim=-1).permute(0, 4, 1, 2, 3),
        torch.tensor(tau * np.float32(1000)),
        leaves["text"],
        states,
    ).sample
    return out.permute(0, 2, 3, 4, 1), leaves


@pytest.mark.parametrize(
    ("name", "shape", "text_tokens"),
    [
        ("t2v", (2, 3, 4, 6), 7),
        ("t2v", (1, 1, 8, 2), 4),
        ("no_cross_norm", (2, 2, 4, 4), 5),
        # diffusers takes the last 512 tokens for the text
        ("i2v", (2, 3, 4, 6), 512),
    ],
)
def test_equals_diffusers(name, shape, text_tokens):
    config = TRANSFORMERS[name]
    model = wan.WanTransformer3DModel(**config).eval()
    parity.randomize(model)
    module = Wan.from_config(config)
    table = transformer_table(module)
    x, tau, condition = _inputs(config, shape, text_tokens)
    params = to_params(parity.state_dict(model), table)
    probe = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    @jax.jit
    def run(params, x, condition):
        def loss(params, x, floats):
            full = condition.replace(**floats)
            out = module.apply({"params": params}, x, tau, full)
            return (out * probe).sum(), out

        floats = {
            name: getattr(condition, name)
            for name in ("text", "image_latent", "image_states")
            if getattr(condition, name) is not None
        }
        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(params, x, floats)

    (_, out), (grads, grad_x, grad_rest) = run(params, x, condition)

    expected, leaves = _torch_call(model, x, tau, condition)
    (expected * torch.tensor(probe)).sum().backward()
    forward = parity.assert_close({"out": out}, {"out": expected.detach().numpy()}, TOLERANCE)
    # behind the mask the text is given, so nothing flows to it
    grad_text = leaves["text"].grad.numpy() * condition.text_mask[..., None]
    inputs = parity.assert_close(
        {"x": grad_x, **grad_rest},
        {name: leaf.grad.numpy() for name, leaf in leaves.items()} | {"text": grad_text},
        TOLERANCE,
    )
    weights = parity.assert_close(to_tensors(grads, table), parity.gradients(model), TOLERANCE)
    print(f"{name} {shape}: {forward=:.1e} {inputs=:.1e} {weights=:.1e}")


@pytest.fixture(scope="module")
def small():
    module = Wan.from_config(T2V)
    inputs = _inputs(T2V, (2, 2, 4, 4), 5)
    model = wan.WanTransformer3DModel(**T2V)
    parity.randomize(model)
    return module, to_params(parity.state_dict(model), transformer_table(module)), inputs


def test_without_text_is_text_of_zeros(small):
    module, params, (x, tau, condition) = small
    apply = jax.jit(module.apply)
    zeros = condition.replace(text=jnp.zeros_like(condition.text))
    none = apply({"params": params}, x, tau, condition.without_text())
    np.testing.assert_array_equal(none, apply({"params": params}, x, tau, zeros))
    assert jnp.abs(none - apply({"params": params}, x, tau, condition)).max() > 1e-2


def test_bfloat16_stays_near(small):
    module, params, inputs = small
    exact = jax.jit(module.apply)({"params": params}, *inputs)
    rough = jax.jit(Wan.from_config(T2V, dtype="bfloat16").apply)({"params": params}, *inputs)
    assert rough.dtype == jnp.float32
    assert 1e-4 < parity.relative_error(rough, exact) < 3e-2


def test_defaults_are_those_of_diffusers():
    original = inspect.signature(wan.WanTransformer3DModel.__init__).parameters
    ours = Wan()
    for name in set(original) - {"self", "qk_norm", "pos_embed_seq_len"}:
        assert getattr(ours, name) == original[name].default, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qk_norm": None}, "qk_norm=None is not implemented"),
        ({"pos_embed_seq_len": 514}, "pos_embed_seq_len=514 is not implemented, only None"),
        ({"num_layer": 3}, "num_layer=3 is unknown, did you mean num_layers"),
        ({"vace_layers": [0, 5]}, "vace_layers"),
    ],
)
def test_config_that_computes_something_else_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Wan.from_config({**T2V, **change})


@pytest.mark.parametrize(
    ("fields", "change", "message"),
    [
        ({}, {"x": np.zeros((2, 2, 5, 4, 4))}, "multiple of the patch"),
        ({}, {"x": np.zeros((2, 33, 2, 2, 4))}, "no longer than 32"),
        ({}, {"x": np.zeros((2, 2, 4, 4, 3))}, "takes 4 channels; the latent has 3"),
        ({}, {"text": np.zeros((2, 5, 9))}, "width 9"),
        ({}, {"image_states": np.zeros((2, 6, 6))}, "image_states"),
        ({"image_dim": 6}, {}, "added_kv_proj_dim=None must be the width, 40"),
        ({"image_dim": 6, "added_kv_proj_dim": 40}, {}, "image_states is missing"),
        ({"in_channels": 12}, {"image_latent": np.zeros((2, 1, 4, 4, 8))}, "another grid"),
    ],
)
def test_wrong_inputs_are_named(fields, change, message):
    x, tau, condition = _inputs(T2V, (2, 2, 4, 4), 5)
    change = {name: values.astype(np.float32) for name, values in change.items()}
    x = change.pop("x", x)
    module = Wan.from_config({**T2V, **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), x, tau, condition.replace(**change))


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_are_those_of_the_published_configs(size):
    ours, published = Wan(**getattr(wan_sizes, size)), Wan.from_config(PUBLISHED[size])
    assert ours == published.clone(remat="full")
