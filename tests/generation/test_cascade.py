"""The networks of a cascade lie on the devices while clips are drawn, and no longer."""

import weakref

import jax.numpy as jnp
import pytest

from vidpref.generation.cascade import Cascade, CascadeNetwork


class Network:
    """Draws nothing."""

    output, steps = "video", 0

    def sample(self, params, keys, batch):
        raise NotImplementedError


class Parameters:
    """Parameters of a name, of which it is known whether anything holds them."""

    def __init__(self):
        self.alive = []

    def loader(self, name):
        def load():
            params = {name: jnp.zeros(3)}
            self.alive.append((name, weakref.ref(params[name])))
            return params

        return load

    def names(self):
        return [name for name, array in self.alive if array() is not None]


@pytest.fixture
def parameters():
    return Parameters()


@pytest.fixture
def cascade(parameters):
    members = (CascadeNetwork(Network(), parameters.loader(n)) for n in ("first", "second"))
    return Cascade(*members)


def test_parameters_are_loaded_on_entry_and_freed_on_exit(cascade, parameters):
    assert parameters.names() == []
    with cascade.loaded() as params:
        assert [*map(list, params)] == [["first"], ["second"]]
        assert parameters.names() == ["first", "second"]
    assert params == []  # still in scope, and still nothing is held
    assert parameters.names() == []


def test_an_error_frees_them_too(cascade, parameters):
    with pytest.raises(RuntimeError, match="no disk"), cascade.loaded():
        raise RuntimeError("no disk")
    assert parameters.names() == []


def test_parameters_in_training_are_neither_loaded_nor_freed(cascade, parameters):
    training = {"first": jnp.ones(3)}
    with cascade.with_params(training).loaded() as params:
        assert params[0] is training
        assert parameters.names() == ["second"]
    assert parameters.names() == []
    assert training["first"].sum() == 3


def test_one_network_is_a_cascade(parameters):
    single = Cascade(CascadeNetwork(Network(), parameters.loader("only")))
    with single.loaded() as params:
        assert len(params) == len(single.networks) == 1
