"""The Frechet distance against closed forms, scipy's square root, and its invariances."""

import numpy as np
import pytest
from scipy import linalg

from vidpref.evaluation.frechet import Moments, distance_of, frechet_distance


def covariance(random, d, samples):
    x = random.standard_normal((samples, d)) @ random.standard_normal((d, d))
    return np.cov(x, rowvar=False)


def by_scipy(m1, c1, m2, c2):
    """As pytorch-fid and StyleGAN-V compute it."""
    root = linalg.sqrtm(c1 @ c2)
    return float(np.square(m1 - m2).sum() + np.trace(c1 + c2 - 2 * root.real))


def moments(x, parts=1):
    found = Moments(x.shape[1])
    for part in np.array_split(x, parts):
        found.add(part)
    return found


def test_one_dimension_is_the_squared_differences_of_means_and_deviations():
    found = frechet_distance(np.array([1.0]), np.array([[9.0]]), np.array([3.0]), np.array([[4.0]]))
    assert found == pytest.approx((1 - 3) ** 2 + (3 - 2) ** 2, abs=1e-12)


def test_gaussians_with_common_axes():
    random = np.random.default_rng(0)
    turn = linalg.qr(random.standard_normal((5, 5)))[0]
    a, b = random.uniform(0, 4, (2, 5))
    b[0] = 0.0  # a direction in which the second has no variance
    m1, m2 = random.standard_normal((2, 5))
    found = frechet_distance(m1, turn * a @ turn.T, m2, turn * b @ turn.T)
    wanted = np.square(m1 - m2).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert found == pytest.approx(wanted, rel=1e-10)


def test_optimal_transport_of_a_linear_map():
    """y = A x with A symmetric and positive is the optimal map: the distance is E|x - A x|^2."""
    random = np.random.default_rng(1)
    c = covariance(random, 6, 40)
    half = random.standard_normal((6, 6))
    a = half @ half.T + np.eye(6)
    step = np.eye(6) - a
    m = np.zeros(6)
    found = frechet_distance(m, c, m, a @ c @ a)
    assert found == pytest.approx(np.trace(step @ c @ step), rel=1e-9)


def test_it_is_that_of_scipy_where_that_can_be_computed():
    random = np.random.default_rng(2)
    for d, samples in ((3, 10), (20, 60), (64, 300)):
        c1, c2 = covariance(random, d, samples), covariance(random, d, samples)
        m1, m2 = random.standard_normal((2, d))
        assert frechet_distance(m1, c1, m2, c2) == pytest.approx(by_scipy(m1, c1, m2, c2), rel=1e-8)


def test_fewer_samples_than_features():
    """tr (C1 C2)^(1/2) is then the nuclear norm of an n x n matrix of inner products."""
    random = np.random.default_rng(3)
    x, y = random.standard_normal((7, 100)), 2 + random.standard_normal((5, 100))
    a, b = ((z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (x, y))
    nuclear = linalg.svdvals(a @ b.T).sum()
    wanted = np.square(x.mean(0) - y.mean(0)).sum() + np.square(a).sum() + np.square(b).sum()
    assert distance_of(moments(x), moments(y)) == pytest.approx(wanted - 2 * nuclear, rel=1e-11)


def test_a_distance_to_itself_is_nothing_and_both_ways_are_alike():
    random = np.random.default_rng(4)
    x, y = 10 * random.standard_normal((6, 50)), random.standard_normal((90, 50))
    first, second = moments(x), moments(y)
    assert distance_of(first, first) < 1e-9
    assert distance_of(first, second) == pytest.approx(distance_of(second, first), rel=1e-12)
    turn = linalg.qr(random.standard_normal((50, 50)))[0]
    turned = distance_of(moments(x @ turn + 3), moments(y @ turn + 3))
    assert turned == pytest.approx(distance_of(first, second), rel=1e-10)


def test_without_any_variance_it_is_the_distance_of_the_means():
    x, y = np.full((3, 4), 1.0), np.full((2, 4), 2.0)
    assert distance_of(moments(x), moments(y)) == 4.0


def test_moments_of_parts_are_those_of_all():
    random = np.random.default_rng(5)
    x = (1e4 + random.standard_normal((101, 6))).astype(np.float32)
    found = moments(x, parts=9)
    found.add(x[:0])
    assert found.count == 101
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(0), rtol=1e-13)
    wanted = np.cov(x.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(found.covariance, wanted, atol=1e-9)


def test_what_has_no_distance_is_refused():
    one = moments(np.ones((1, 3)))
    with pytest.raises(ValueError, match="covariance of 1 samples: at least 2"):
        distance_of(one, one)
    with pytest.raises(ValueError, match="width 2 beside 3"):
        one.add(np.ones((1, 2)))
    with pytest.raises(ValueError, match="not finite"):
        one.add(np.full((1, 3), np.nan))
    m, c = np.zeros(2), np.eye(2)
    with pytest.raises(ValueError, match="width 3 and of 2"):
        frechet_distance(np.zeros(3), np.eye(3), m, c)
    with pytest.raises(ValueError, match="eigenvalue -1"):
        frechet_distance(m, np.diag([1.0, -1.0]), m, c)
    with pytest.raises(ValueError, match="symmetric"):
        frechet_distance(m, np.array([[1.0, 0.5], [0.0, 1.0]]), m, c)
