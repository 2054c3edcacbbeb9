"""The tables alone; each model's own table is tested against its PyTorch class."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from flax import linen as nn

from vidpref.interop.table import Rule, plan, to_params, to_tensors

TABLE = (
    Rule("shared.weight", "embed/embedding", "embedding", tied="tokens.weight"),
    Rule("stem.weight", "stem/kernel", "conv"),
    Rule("stem.bias", "stem/bias", "vector"),
    Rule("h.{i}.up.weight", "blocks/up/kernel", "linear"),
    Rule("h.{i}.shift", "blocks/shift", "kept"),
)


def state_dict() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"shared.weight": (7, 3), "stem.weight": (5, 3, 1, 2, 2), "stem.bias": (5,)}
    for i in range(11):  # more than ten: numbers are not compared as text
        shapes |= {f"h.{i}.up.weight": (6, 5), f"h.{i}.shift": (1, 2, 5)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_layouts_are_those_of_the_layers():
    tensors = state_dict()
    params = to_params(tensors, TABLE)
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 6, 6)).astype(np.float32)  # b c t h w
    conv = nn.Conv(5, (1, 2, 2), padding="VALID").apply(
        {"params": params["stem"]}, x.transpose(0, 2, 3, 4, 1)
    )
    weight, bias = (torch.from_numpy(tensors[f"stem.{name}"]) for name in ("weight", "bias"))
    theirs = torch.nn.functional.conv3d(torch.from_numpy(x), weight, bias).numpy()
    np.testing.assert_allclose(np.moveaxis(conv, -1, 1), theirs, rtol=1e-4, atol=1e-5)
    for i in (0, 9, 10):
        kernel = {"kernel": params["blocks"]["up"]["kernel"][i]}
        y = nn.Dense(6, use_bias=False).apply({"params": kernel}, x[0, 0, 0, :, :5])
        np.testing.assert_allclose(
            y, x[0, 0, 0, :, :5] @ tensors[f"h.{i}.up.weight"].T, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_array_equal(params["blocks"]["shift"][i], tensors[f"h.{i}.shift"])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_there_and_back_is_equal_bit_for_bit(dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in state_dict().items()}
    params = to_params(tensors, TABLE)
    back = to_tensors(jax.tree.map(jnp.asarray, params), TABLE)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == dtype
        np.testing.assert_array_equal(back[name], tensor)


def test_all_that_is_wrong_is_named_at_once():
    tensors = state_dict()
    params = to_params(tensors, TABLE)
    del tensors["h.3.shift"], tensors["stem.bias"]
    tensors["head.weight"] = np.zeros(3)
    tensors["h.11.up.weight"] = np.zeros((6, 5))
    tensors["h.10.up.weight"] = np.zeros((5, 6))
    tensors["stem.weight"] = np.zeros((5, 4, 1, 2, 2))
    with pytest.raises(ValueError, match="not those of the model") as error:
        to_params(tensors, TABLE, expected=params)
    assert str(error.value).splitlines()[1:] == [
        "  missing (2): stem.bias; h.3.shift",
        "  extra (2): head.weight; h.11.up.weight",
        "  misshapen (2): stem.weight (5, 4, 1, 2, 2), wanted (5, 3, 1, 2, 2); "
        "h.10.up.weight (5, 6), wanted (6, 5)",
    ]


def test_a_missing_block_is_found_without_the_model():
    tensors = state_dict()
    del tensors["h.10.shift"]
    with pytest.raises(ValueError, match=r"missing \(1\): h\.10\.shift"):
        to_params(tensors, TABLE)


def test_blocks_must_be_alike():
    tensors = state_dict()
    tensors["h.4.shift"] = np.zeros((1, 3, 5))
    with pytest.raises(ValueError, match=r"h\.4\.shift \(1, 3, 5\), wanted \(1, 2, 5\)"):
        to_params(tensors, TABLE)


def test_a_tensor_of_another_kind_is_refused():
    tensors = {"stem.weight": np.zeros((5, 3))}
    with pytest.raises(ValueError, match=r"stem\.weight \(5, 3\): no conv weight has 2 dim"):
        to_params(tensors, TABLE[1:2])


@pytest.mark.parametrize(
    "names", [("shared.weight",), ("tokens.weight",), ("shared.weight", "tokens.weight")]
)
def test_tied_weights_come_under_either_name(names):
    tensors = {name: np.full((2, 3), len(name)) for name in names}
    params = to_params(tensors, TABLE[:1])
    np.testing.assert_array_equal(params["embed"]["embedding"], tensors[names[0]])
    assert list(to_tensors(params, TABLE[:1])) == ["shared.weight"]


def test_the_table_and_the_model_must_agree():
    params = to_params(state_dict(), TABLE)
    params["head"] = {"bias": params["stem"].pop("bias")}
    wrong = r"without a rule \(1\): head/bias\n  with a rule but not in the model \(1\): stem/bias"
    with pytest.raises(ValueError, match=wrong):
        to_tensors(params, TABLE)
    with pytest.raises(ValueError, match=wrong):
        to_params(state_dict(), TABLE, expected=params)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((Rule("a", "x", "vector"), Rule("b", "x", "vector")), "made by several rules"),
        ((Rule("a", "x", "vector"), Rule("a", "y", "vector")), "claimed by several rules"),
        ((Rule("a", "x", "dense"),), "a: 'dense'"),
        ((Rule("{i}.{i}", "x", "kept"),), "more than one"),
    ],
)
def test_bad_tables_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        to_params({"a": np.zeros(3), "b": np.zeros(3)}, rules)


def test_boxed_shapes_are_enough_to_check_against():
    module = nn.Dense(
        4, kernel_init=nn.with_logical_partitioning(nn.initializers.ones, ("in", "out"))
    )
    boxed = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 3)))["params"]
    table = (Rule("weight", "kernel", "linear"), Rule("bias", "bias", "vector"))
    (kernel, bias) = plan({"weight": (4, 3), "bias": (4,)}, table, expected=boxed)
    assert (kernel.shape, bias.shape) == ((3, 4), (4,))
