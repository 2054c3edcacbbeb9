"""Dense layers and projections with logical axis names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.spread import tokens_may_be_split
from vidpref.typing import Array, Float


def flat_dot_general(
    lhs: Array,
    rhs: Array,
    dimension_numbers: tuple,
    precision: object = None,
    preferred_element_type: object = None,
) -> Array:
    """`dot_general` of [..., d] with [d, f] as ONE two-dimensional product.

    The result is the same; XLA's CPU compiler turns the weight gradient of the flat form into one
    fast matrix product, which it does not do for more than two dimensions. Not where tokens may be
    divided over devices: clips and tokens that are both divided have no common dimension.
    """
    if tokens_may_be_split():
        return jax.lax.dot_general(
            lhs,
            rhs,
            dimension_numbers,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
    flat = jax.lax.dot_general(
        lhs.reshape(-1, lhs.shape[-1]),
        rhs,
        (((1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return flat.reshape(*lhs.shape[:-1], rhs.shape[-1])


def product(x: Float[Array, "*l d"], kernel: Float[Array, "d f"]) -> Float[Array, "*l f"]:
    """x @ kernel over the last axis, by `flat_dot_general`."""
    return flat_dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def dense(
    features: int,
    *,
    axes: tuple[str, str] = ("in", "out"),
    zero: bool = False,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    name: str | None = None,
) -> nn.Dense:
    """Returns a dense layer over the last axis whose parameters carry the axis names `axes`.

    Args:
        features: width of the output.
        axes: logical names of the kernel's two axes.
        zero: start from zero, as the last layer of a residual branch does.
        bias: whether there is a bias.
        dtype: type of the computation; parameters are float32.
        name: name of the layer in the parameter tree.
    """
    kernel_init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Dense(
        features,
        use_bias=bias,
        dtype=dtype,
        kernel_init=nn.with_logical_partitioning(kernel_init, axes),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[1:]),
        dot_general=flat_dot_general,
        name=name,
    )
