import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.diffusion.conversions import KINDS, convert, error_factor, target

SHAPE = (5, 2, 3, 3, 1)
# Variance-preserving, rectified-flow and arbitrary weights.
ALPHA = jnp.array([0.8, 0.6, 0.7, 0.1, 1.3])
SIGMA = jnp.array([0.6, 0.8, 0.3, 0.9, 0.4])


@pytest.fixture(scope="module")
def noised():
    x0, eps = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    rows = (-1, 1, 1, 1, 1)
    return x0, eps, ALPHA.reshape(rows) * x0 + SIGMA.reshape(rows) * eps


def test_targets_follow_their_definitions(noised):
    x0, eps, _ = noised
    a, s = np.reshape(ALPHA, (-1, 1, 1, 1, 1)), np.reshape(SIGMA, (-1, 1, 1, 1, 1))
    expected = {"x0": x0, "eps": eps, "v": a * eps - s * x0, "velocity": eps - x0}
    for kind in KINDS:
        np.testing.assert_allclose(target(kind, x0, eps, ALPHA, SIGMA), expected[kind], atol=1e-6)


@pytest.mark.parametrize(("source", "to"), list(itertools.product(KINDS, KINDS)))
def test_perfect_outputs_convert_to_perfect_outputs(noised, source, to):
    x0, eps, x_tau = noised
    output = target(source, x0, eps, ALPHA, SIGMA)
    got = convert(output, x_tau, ALPHA, SIGMA, source=source, to=to)
    np.testing.assert_allclose(got, target(to, x0, eps, ALPHA, SIGMA), rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize(("source", "to"), list(itertools.permutations(KINDS, 2)))
def test_round_trip_returns_any_output(noised, source, to):
    *_, x_tau = noised
    output = jax.random.normal(jax.random.key(1), SHAPE)
    there = convert(output, x_tau, ALPHA, SIGMA, source=source, to=to)
    back = convert(there, x_tau, ALPHA, SIGMA, source=to, to=source)
    np.testing.assert_allclose(back, output, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize(("source", "to"), list(itertools.product(KINDS, KINDS)))
def test_error_factor_is_the_ratio_of_squared_errors(noised, source, to):
    x0, eps, x_tau = noised
    output = jax.random.normal(jax.random.key(1), SHAPE)

    def error(kind):
        converted = convert(output, x_tau, ALPHA, SIGMA, source=source, to=kind)
        return jnp.sum((converted - target(kind, x0, eps, ALPHA, SIGMA)) ** 2, axis=(1, 2, 3, 4))

    factor = error_factor(source, to, ALPHA, SIGMA)
    np.testing.assert_allclose(error(source) * factor, error(to), rtol=1e-5)


@pytest.mark.parametrize(("source", "end"), [("x0", (1.0, 0.0)), ("eps", (0.0, 1.0))])
def test_singular_end_gives_zero_with_a_zero_gradient(source, end):
    alpha, sigma = jnp.full((1,), end[0]), jnp.full((1,), end[1])
    x = jnp.ones((1, 2, 2))
    for to in set(KINDS) - {source}:
        value, gradient = jax.value_and_grad(
            lambda o, to=to: convert(o, x, alpha, sigma, source=source, to=to).sum()
        )(x)
        assert value == 0.0
        assert np.all(np.asarray(gradient) == 0.0)
        assert error_factor(source, to, alpha, sigma) == 0.0
    np.testing.assert_array_equal(convert(x, x, alpha, sigma, source=source, to=source), x)


@pytest.mark.parametrize("end", [(1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("source", ["v", "velocity"])
def test_v_and_velocity_convert_at_both_ends(source, end):
    alpha, sigma = jnp.full((1,), end[0]), jnp.full((1,), end[1])
    x0, eps = jax.random.normal(jax.random.key(0), (2, 1, 4))
    x_tau = end[0] * x0 + end[1] * eps
    output = target(source, x0, eps, alpha, sigma)
    for to, expected in (("x0", x0), ("eps", eps)):
        got = convert(output, x_tau, alpha, sigma, source=source, to=to)
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_unknown_kind_is_named():
    x, one = jnp.ones((1, 2)), jnp.ones(1)
    with pytest.raises(ValueError, match="'score': known predictions are x0, eps, v, velocity"):
        convert(x, x, one, one, source="score", to="x0")
