"""What a network may predict, and how one prediction becomes another.

With `x_tau = alpha x0 + sigma eps`, every prediction is a linear form in (x0, eps):

    x0        the clean clip
    eps       the noise
    v         alpha eps - sigma x0    (Salimans and Ho 2022)
    velocity  eps - x0                (rectified flow)

so any of them, together with x_tau, fixes every other: two equations, two unknowns.

At the ends of time one pair of equations is singular: at sigma = 0 `x0` says nothing about eps, and
at alpha = 0 `eps` says nothing about x0. There, and only there, a conversion returns 0 with a zero
gradient. `v` and `velocity` convert everywhere.
"""

import jax.numpy as jnp

from vidpref.typing import Array, Float

KINDS = ("x0", "eps", "v", "velocity")


def target(
    kind: str,
    x0: Float[Array, " b *clip"],
    eps: Float[Array, " b *clip"],
    alpha: Float[Array, " b"],
    sigma: Float[Array, " b"],
) -> Float[Array, " b *clip"]:
    """Returns what a perfect network of this `kind` would output."""
    of_x0, of_eps = _linear_form(kind, alpha, sigma)
    return scale_rows(of_x0, x0) + scale_rows(of_eps, eps)


def convert(
    output: Float[Array, " b *clip"],
    x_tau: Float[Array, " b *clip"],
    alpha: Float[Array, " b"],
    sigma: Float[Array, " b"],
    *,
    source: str,
    to: str,
) -> Float[Array, " b *clip"]:
    """Turns a prediction of kind `source` into one of kind `to`; see the module for the ends."""
    if source == to:
        return output
    a, b = _coefficients(source, to, alpha, sigma)
    return scale_rows(a, output) + scale_rows(b, x_tau)


def error_factor(
    source: str, to: str, alpha: Float[Array, " b"], sigma: Float[Array, " b"]
) -> Float[Array, " b"]:
    """Returns how much larger a squared error is in `to` than in `source`.

    A conversion is affine in the output for a given x_tau, so the two errors differ by this factor
    alone; with it no small difference of large numbers is ever formed. For a DDPM, x0 to v is
    `1 / sigma^2 = 1 / (1 - abar)`: large at little noise, though bounded by the first step of the
    schedule (about 2.4e4 for 1000 cosine steps, 1e4 for linear ones).
    """
    if source == to:
        return jnp.ones_like(alpha)
    return _coefficients(source, to, alpha, sigma)[0] ** 2


def scale_rows(factor: Float[Array, " b"], x: Float[Array, " b *clip"]) -> Float[Array, " b *clip"]:
    """Multiplies row i of `x` by `factor[i]`."""
    return factor.reshape(-1, *[1] * (x.ndim - 1)) * x


def check_kind(kind: str, what: str) -> None:
    """Raises ValueError unless `kind` is one of KINDS; `what` names the setting."""
    if kind not in KINDS:
        raise ValueError(f"{what}={kind!r}: known predictions are {', '.join(KINDS)}")


def _linear_form(kind: str, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """The prediction's weights of (x0, eps)."""
    check_kind(kind, "prediction")
    one, zero = jnp.ones_like(alpha), jnp.zeros_like(alpha)
    forms = {"x0": (one, zero), "eps": (zero, one), "v": (-sigma, alpha), "velocity": (-one, one)}
    return forms[kind]


def _coefficients(source: str, to: str, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """(a, b) of `to = a source + b x_tau`, by Cramer's rule."""
    p0, p1 = _linear_form(source, alpha, sigma)
    q0, q1 = _linear_form(to, alpha, sigma)
    determinant = p0 * sigma - p1 * alpha
    singular = determinant == 0
    inverse = jnp.where(singular, 0.0, 1.0 / jnp.where(singular, 1.0, determinant))
    return (q0 * sigma - q1 * alpha) * inverse, (p0 * q1 - p1 * q0) * inverse
