"""RAFT's convolutions: padded alike on both sides, with the norms of its encoders."""

import flax.linen as nn
import jax

from vidpref.models.norm import StoredNorm
from vidpref.typing import Array, Float

_EPSILON = 1e-5


def conv(
    features: int, kernel: tuple[int, int], *, stride: int = 1, name: str | None = None
) -> nn.Conv:
    """Returns a convolution with half a kernel of zeros on every side, as PyTorch pads.

    Args:
        features: output channels.
        kernel: (h, w), odd.
        stride: in both directions.
        name: of the layer in the parameter tree.
    """
    axes = ("kernel", "kernel", "in", "out")
    return nn.Conv(
        features,
        kernel,
        strides=(stride, stride),
        padding=[(size // 2, size // 2) for size in kernel],
        kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("out",)),
        name=name,
    )


class ConvNorm(nn.Module):
    """A convolution, a norm, and mostly a ReLU.

    Attributes:
        features: output channels.
        size: side of the kernel.
        stride: in both directions.
        norm: "instance"; "batch", by the statistics that training has left; or "none".
        relu: whether there is a ReLU.
    """

    features: int
    size: int
    stride: int = 1
    norm: str = "none"
    relu: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        x = conv(self.features, (self.size, self.size), stride=self.stride, name="conv")(x)
        if self.norm == "instance":
            x = _instance_norm(x)
        elif self.norm == "batch":
            x = StoredNorm(_EPSILON, name="norm")(x)
        return jax.nn.relu(x) if self.relu else x


def _instance_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Every channel of every image by its own mean and variance."""
    centred = x - x.mean(axis=(1, 2), keepdims=True)
    variance = (centred * centred).mean(axis=(1, 2), keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON)
