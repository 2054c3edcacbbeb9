import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.diffusion.guidance import classifier_free
from vidpref.typing import Array


@flax.struct.dataclass
class Words:
    text: Array
    mask: Array
    first_frame: Array | None = None

    def without_text(self):
        return self.replace(mask=jnp.zeros_like(self.mask))


def network(x, tau, words):
    text = (words.text * words.mask[:, :, None]).sum(axis=(1, 2))
    return x * tau.reshape(-1, 1, 1, 1, 1) + jnp.tanh(text).reshape(-1, 1, 1, 1, 1)


@pytest.fixture
def inputs():
    x = jax.random.normal(jax.random.key(0), (3, 2, 4, 4, 3))
    words = Words(
        text=jax.random.normal(jax.random.key(1), (3, 5, 4)),
        mask=jnp.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool),
    )
    return x, jnp.array([0.2, 0.5, 0.9]), words


def test_scale_one_is_the_conditional_network_called_once(inputs):
    x, tau, words = inputs
    rows = []

    def counting(x, tau, words):
        rows.append(len(x))
        return network(x, tau, words)

    got = classifier_free(counting, words, 1.0)(x, tau)
    np.testing.assert_array_equal(got, network(x, tau, words))
    assert rows == [3]


@pytest.mark.parametrize("scale", [0.0, 0.5, 5.0])
def test_both_branches_combine_in_one_call(inputs, scale):
    x, tau, words = inputs
    rows = []

    def counting(x, tau, words):
        rows.append(len(x))
        return network(x, tau, words)

    got = classifier_free(counting, words, scale)(x, tau)
    c, u = network(x, tau, words), network(x, tau, words.without_text())
    np.testing.assert_allclose(got, u + scale * (c - u), atol=1e-6)
    assert rows == [6]
