"""Inception-V3 (Szegedy et al. 2016) as FID and Inception Score have it.

It is the network of TensorFlow's graph of 2015-12-05, in pytorch-fid's port: torchvision's layers,
but average pools count no padding, and the last block pools by the largest. torchvision's own
weights belong to another network, whose FID is another number.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.models.norm import StoredNorm
from vidpref.typing import Array, Float

SIDE = 299  # pixels of a frame's side
WIDTH = 2048  # of the features
_EPSILON = 1e-3
_SAME = "SAME"


class Inception(nn.Module):
    """The network; names are those of pytorch-fid and torchvision.

    Attributes:
        classes: of the last layer, 1008 in TensorFlow's graph.
    """

    classes: int = 1008

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b 2048"], Float[Array, "b c"]]:
        """Returns the pooled features, for FID, and the logits without their bias.

        The original Inception Score is of logits without the bias (openai/improved-gan).

        Args:
            images: in [-1, 1], of 75 pixels a side or more; FID's are of `SIDE`.
        """
        x = Layer(32, (3, 3), 2, name="Conv2d_1a_3x3")(images)
        x = Layer(32, (3, 3), name="Conv2d_2a_3x3")(x)
        x = Layer(64, (3, 3), padding=_SAME, name="Conv2d_2b_3x3")(x)
        x = _largest(x)
        x = Layer(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = Layer(192, (3, 3), name="Conv2d_4a_3x3")(x)
        x = _largest(x)
        for name, width in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(width, name=name)(x)
        x = BlockB(name="Mixed_6a")(x)
        for name, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = BlockC(width, name=f"Mixed_6{name}")(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE("mean", name="Mixed_7b")(x)
        x = BlockE("largest", name="Mixed_7c")(x)
        features = x.mean(axis=(1, 2))
        kernel_init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
        logits = nn.Dense(self.classes, use_bias=False, kernel_init=kernel_init, name="fc")
        return features, logits(features)


class Layer(nn.Module):
    """A convolution, a norm by stored statistics, and a ReLU.

    Attributes:
        features: output channels.
        kernel: (h, w), odd.
        stride: in both directions.
        padding: "VALID", or "SAME" where the stride is 1.
    """

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "VALID"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        axes = ("kernel", "kernel", "in", "out")
        x = nn.Conv(
            self.features,
            self.kernel,
            strides=(self.stride, self.stride),
            padding=self.padding,
            use_bias=False,
            kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
            name="conv",
        )(x)
        return jax.nn.relu(StoredNorm(_EPSILON, name="bn")(x))


def _chain(x: Array, name: str, *layers: tuple[int, tuple[int, int]]) -> Array:
    """Layers of a branch, of (features, kernel), that keep the size."""
    for number, (features, kernel) in enumerate(layers, start=1):
        x = Layer(features, kernel, padding=_SAME, name=f"{name}_{number}")(x)
    return x


def _single(x: Array, name: str, features: int) -> Array:
    return Layer(features, (1, 1), name=name)(x)


class BlockA(nn.Module):
    """Branches of 1x1, 5x5 and twice 3x3, and a pool; `pooled` are the channels of the last."""

    pooled: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        branches = [
            _single(x, "branch1x1", 64),
            _chain(x, "branch5x5", (48, (1, 1)), (64, (5, 5))),
            _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
            _single(_mean(x), "branch_pool", self.pooled),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockB(nn.Module):
    """Halves the size: branches of 3x3 and twice 3x3, and a pool."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        double = _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)))
        branches = [
            Layer(384, (3, 3), 2, name="branch3x3")(x),
            Layer(96, (3, 3), 2, name="branch3x3dbl_3")(double),
            _largest(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockC(nn.Module):
    """Branches of 7x7 in two directions by turns; `width` are the channels between them."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        across, down, width = (1, 7), (7, 1), self.width
        double = ((width, (1, 1)), (width, down), (width, across), (width, down), (192, across))
        branches = [
            _single(x, "branch1x1", 192),
            _chain(x, "branch7x7", (width, (1, 1)), (width, across), (192, down)),
            _chain(x, "branch7x7dbl", *double),
            _single(_mean(x), "branch_pool", 192),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockD(nn.Module):
    """Halves the size: branches of 3x3 and 7x7, and a pool."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        near = _chain(x, "branch3x3", (192, (1, 1)))
        far = _chain(x, "branch7x7x3", (192, (1, 1)), (192, (1, 7)), (192, (7, 1)))
        branches = [
            Layer(320, (3, 3), 2, name="branch3x3_2")(near),
            Layer(192, (3, 3), 2, name="branch7x7x3_4")(far),
            _largest(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockE(nn.Module):
    """Branches that end in 1x3 beside 3x1, and a pool, by the "mean" or the "largest"."""

    pool: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        def both(x: Array, name: str) -> list[Array]:
            return [
                Layer(384, (1, 3), padding=_SAME, name=f"{name}a")(x),
                Layer(384, (3, 1), padding=_SAME, name=f"{name}b")(x),
            ]

        pooled = _mean(x) if self.pool == "mean" else nn.max_pool(x, (3, 3), padding=_SAME)
        branches = [
            _single(x, "branch1x1", 320),
            *both(_chain(x, "branch3x3", (384, (1, 1))), "branch3x3_2"),
            *both(_chain(x, "branch3x3dbl", (448, (1, 1)), (384, (3, 3))), "branch3x3dbl_3"),
            _single(pooled, "branch_pool", 192),
        ]
        return jnp.concatenate(branches, axis=-1)


def _largest(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    return nn.max_pool(x, (3, 3), strides=(2, 2))


def _mean(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return nn.avg_pool(x, (3, 3), padding=_SAME, count_include_pad=False)
