import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.diffusion.guidance import classifier_free, cogvideox_dynamic
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


@pytest.mark.parametrize(("scale", "steps"), [(6.0, 50), (3.0, 4), (6.0, 1000)])
def test_dynamic_scale_is_that_of_cogvideoxs_pipeline(scale, steps):
    """`CogVideoXPipeline.__call__` with `use_dynamic_cfg`, at its integer timesteps."""
    timesteps = [0, 1, 19, 499, 979, 998, 999]
    expected = [
        1 + scale * ((1 - math.cos(math.pi * ((steps - t) / steps) ** 5.0)) / 2) for t in timesteps
    ]
    tau = jnp.asarray([(t + 1) / 1000 for t in timesteps])
    found = jax.jit(cogvideox_dynamic(scale, steps))(tau)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.ptp(expected) > 0.5


def test_every_row_has_the_scale_of_its_time(inputs):
    x, tau, words = inputs
    scales = {0.2: 1.0, 0.5: 3.0, 0.9: 0.0}

    def scale(tau):
        return jnp.stack([jnp.asarray(scales[round(float(t), 3)]) for t in tau])

    got = classifier_free(network, words, scale)(x, tau)
    c, u = network(x, tau, words), network(x, tau, words.without_text())
    for row, guidance in enumerate(scales.values()):
        np.testing.assert_allclose(got[row], u[row] + guidance * (c[row] - u[row]), atol=1e-6)
