"""Frechet distance of two sets of features: FID of frames and FVD of clips.

Of Gaussians with means m and covariances C (Dowson and Landau 1982; Heusel et al. 2017, eq. 6):

    |m_1 - m_2|^2 + tr C_1 + tr C_2 - 2 tr (C_1 C_2)^(1/2).

With C = B B^T the last trace is the sum of the singular values of B_1^T B_2, so that nothing is
inverted, nothing becomes complex, and covariances of fewer samples than features are no special
case.
"""

import numpy as np

from vidpref.typing import Array, Float


class Moments:
    """Number, mean and covariance of rows that come in parts, in float64 (Chan et al. 1983).

    Args:
        width: d, numbers of a row.

    Attributes:
        count: rows until now.
        mean: their mean, float64 [d].
    """

    def __init__(self, width: int):
        self.count = 0
        self.mean = np.zeros(width)
        self._scatter = np.zeros((width, width))

    def add(self, rows: Float[Array, "n d"]) -> None:
        """Counts rows in.

        Raises:
            ValueError: rows of another width, or a number that is not finite.
        """
        rows = np.asarray(rows, np.float64)
        if rows.shape[1] != len(self.mean):
            raise ValueError(f"features of width {rows.shape[1]} beside {len(self.mean)}")
        if not np.isfinite(rows).all():
            raise ValueError("a feature is not finite")
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        centred, step = rows - mean, mean - self.mean
        both = self.count + len(rows)
        self._scatter += centred.T @ centred
        self._scatter += np.outer(step, step) * (self.count * len(rows) / both)
        self.mean = self.mean + step * (len(rows) / both)
        self.count = both

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The covariance with n - 1 in the denominator, as `numpy.cov`.

        Raises:
            ValueError: fewer than two rows.
        """
        if self.count < 2:
            raise ValueError(f"the covariance of {self.count} samples: at least 2 are needed")
        return self._scatter / (self.count - 1)


def distance_of(first: Moments, second: Moments) -> float:
    """Returns the distance of two sets of features.

    It is biased upwards where samples are few (Chong and Forsyth 2020), so that only distances of
    as many samples can be compared.

    Raises:
        ValueError: sets of fewer than two rows, or of different widths.
    """
    return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)


def frechet_distance(
    mean1: Float[Array, " d"],
    covariance1: Float[Array, "d d"],
    mean2: Float[Array, " e"],
    covariance2: Float[Array, "e e"],
) -> float:
    """Returns the squared Frechet (2-Wasserstein) distance of two Gaussians.

    Args:
        mean1, mean2: their means; e is d.
        covariance1, covariance2: symmetric without negative eigenvalues; they may be singular.

    Raises:
        ValueError: different widths, or a matrix that is no covariance.
    """
    means = [np.asarray(mean, np.float64) for mean in (mean1, mean2)]
    covariances = [np.asarray(c, np.float64) for c in (covariance1, covariance2)]
    if len(means[0]) != len(means[1]):
        raise ValueError(f"features of width {len(means[0])} and of {len(means[1])}")
    factors = [_factor(covariance) for covariance in covariances]
    shared = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    apart = np.square(means[0] - means[1]).sum()
    # the traces come from the factors, so that equal Gaussians are at 0 but for rounding
    traces = sum(np.square(factor).sum() for factor in factors)
    return max(0.0, float(apart + traces - 2 * shared))


def _factor(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d r"]:
    """B of r columns with B B^T = covariance, r its numerical rank."""
    if not np.allclose(covariance, covariance.T, rtol=1e-8, atol=1e-12 * np.abs(covariance).max()):
        raise ValueError("a covariance must be symmetric")
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    rounding = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    if values[0] < -1e3 * rounding or values[-1] < 0:
        raise ValueError(f"no covariance: it has the eigenvalue {values[0]:g}")
    kept = values > rounding
    return vectors[:, kept] * np.sqrt(values[kept])
