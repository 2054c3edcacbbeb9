"""Configs as fields of modules: what is read, passed over and refused."""

import flax.linen as nn
import pytest

from vidpref.models.config_json import WRITTEN, read_config


class Network(nn.Module):
    """Of every kind of field."""

    width: int = 4
    depth: int | None = None
    scale: float = 1.5
    kernel: tuple[int, int] = (1, 2)
    channels: tuple[int, ...] = (8, 16)
    means: tuple[float, ...] = (-1.0, 0.0)
    flags: tuple[bool, ...] = (True, False)
    bias: bool = True
    act: str = "gelu"
    dtype: str = "float32"
    attention: str = "xla"


def read(**config):
    return read_config(Network, config, fixed={"dropout": 0.0}, ignored=("upcast",))


def test_fields_are_read():
    fields = {
        **{"width": 3, "depth": 2, "scale": 2, "kernel": [3, 3], "channels": [1, 2, 3]},
        **{"means": [0, -2.5], "flags": [False], "bias": False, "act": "silu"},
    }
    network = read(**fields, dropout=0, upcast=True, _class_name="Network", _diffusers_version=1)
    for name, value in fields.items():
        assert getattr(network, name) == (tuple(value) if isinstance(value, list) else value)
    assert read(depth=None) == Network()
    assert isinstance(read(scale=2).scale, float)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_what_changes_nothing_is_passed_over(name):
    assert read(**{name: 0.5}) == Network()  # dtype too: the file's is not that of a run


def test_unknown_fields_that_are_null_are_passed_over():
    assert read(something_new=None) == Network()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"something_new": 1}, "something_new=1 is unknown"),
        ({"something_new": False}, "something_new=False is unknown"),
        ({"attention": "flash"}, "attention='flash' is unknown"),  # a choice of the run
        ({"widht": 3}, "widht=3 is unknown, did you mean width"),
        ({"dropout": 0.1}, "dropout=0.1 is not implemented, only 0.0"),
        ({"dropout": None}, "dropout=None is not implemented"),
        ({"width": None}, "width=None must be a whole number from 1"),
        ({"width": 0}, "width=0 must be a whole number from 1"),
        ({"width": -3}, "width=-3 must be"),
        ({"width": 2**70}, "width=1180591620717411303424 must be a whole number from 1 to 1000000"),
        ({"width": 3.0}, "width=3.0 must be a whole number"),
        ({"width": True}, "width=True must be a whole number"),
        ({"width": "3"}, "width='3' must be a whole number"),
        ({"width": [3]}, r"width=\(3,\) must be a whole number"),
        ({"depth": "x"}, "depth='x' must be a whole number from 1 to 1000000 or null"),
        ({"scale": 0}, "scale=0 must be a number above 0"),
        ({"scale": {}}, r"scale=\{\} must be a number"),
        ({"kernel": [3]}, r"kernel=\(3,\) must be a list of 2, each a whole number from 1"),
        ({"kernel": 3}, "kernel=3 must be a list of 2"),
        ({"channels": []}, r"channels=\(\) must be a list, each a whole number"),
        ({"channels": [4, 0]}, r"channels=\(4, 0\) must be a list"),
        ({"means": ["x"]}, r"means=\('x',\) must be a list, each a number"),
        ({"flags": [1]}, r"flags=\(1,\) must be a list, each true or false"),
        ({"bias": 1}, "bias=1 must be true or false"),
        ({"act": 1}, "act=1 must be a text"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=f"the config of Network asks for what .*: {message}"):
        read(**fields)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ValueError, match=r"width=0 .*; novel=1 is unknown"):
        read(width=0, novel=1)
