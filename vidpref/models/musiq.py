"""MUSIQ (Ke et al. 2021): how good a picture of any size looks, technically."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidpref.models.clip.block import clip_blocks
from vidpref.models.dense import dense
from vidpref.models.interpolation import resize
from vidpref.models.norm import GroupNorm, layer_norm
from vidpref.typing import Array, Float, Int

PATCH = 32  # pixels of a patch's side
LONGER_SIDES = (224, 384)  # of the scales besides the picture's own
_GRID = 10  # places to a side that positions are rounded to
_GROUPS, _CHANNELS = 32, 64
_EPSILON = 1e-6


class Musiq(nn.Module):
    """A transformer of the patches of a picture at three scales, in pyiqa's port.

    pyiqa fills sequences up and hides what it has filled them with; here nothing is filled up.

    Attributes:
        hidden_size: width e of a state.
        intermediate_size: hidden width of the perceptron.
        num_hidden_layers: blocks.
        num_attention_heads: heads of a block.
    """

    hidden_size: int = 384
    intermediate_size: int = 1152
    num_hidden_layers: int = 14
    num_attention_heads: int = 6

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        """Returns the score of each picture, 0 to 100 with the weights of SPAQ.

        Args:
            images: in [-1, 1].
        """
        b, h, w, _ = images.shape
        wide, normal = self.hidden_size, nn.initializers.normal(0.02)
        kept = nn.with_logical_partitioning(normal, (None, None, "embed"))
        positions = self.param("positions", kept, (1, _GRID**2, wide))
        of_scales = self.param(
            "scales",
            nn.with_logical_partitioning(normal, (None, "embed")),
            (1 + len(LONGER_SIDES), wide),
        )
        patches, added = [], []
        for number, longer in enumerate((*LONGER_SIDES, max(h, w))):
            ratio = longer / max(h, w)
            height, width = round(h * ratio), round(w * ratio)
            found = _patches(resize(images, height, width, "cubic"))
            places = hashed_places(found.shape[1], found.shape[2])
            patches.append(found.reshape(b, -1, PATCH, PATCH, 3))
            added.append(positions[0, places] + of_scales[None, number])
        patches = jnp.concatenate(patches, axis=1)
        x = PatchFeatures(name="patches")(patches.reshape(-1, PATCH, PATCH, 3))
        x = dense(wide, name="embedding")(x.reshape(b, patches.shape[1], -1))
        x = x + jnp.concatenate(added)[None]
        whole = jnp.broadcast_to(self.param("whole", kept, (1, 1, wide)), (b, 1, wide))
        x = jnp.concatenate([whole, x], axis=1)
        x, _ = clip_blocks(
            self.num_hidden_layers,
            heads=self.num_attention_heads,
            hidden=self.intermediate_size,
            activation="gelu",
            epsilon=_EPSILON,
            dtype=jnp.float32,
            name="blocks",
        )(x)
        x = layer_norm(_EPSILON, affine=True, name="norm_out")(x[:, 0])
        return dense(1, name="head")(x)[:, 0]


class PatchFeatures(nn.Module):
    """The first layers of a ResNet on every patch, with weights that are standardised."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w 3"]) -> Float[Array, "n h4 w4 c"]:
        x = StandardisedConv(_CHANNELS, 7, 2, name="root")(x)
        x = jax.nn.relu(_normed(x, 1e-6, "root_norm"))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        wide = 4 * _CHANNELS
        y = jax.nn.relu(_normed(StandardisedConv(_CHANNELS, 1, name="conv1")(x), 1e-4, "norm1"))
        y = jax.nn.relu(_normed(StandardisedConv(_CHANNELS, 3, name="conv2")(y), 1e-4, "norm2"))
        y = _normed(StandardisedConv(wide, 1, name="conv3")(y), 1e-4, "norm3")
        x = _normed(StandardisedConv(wide, 1, name="projection")(x), 1e-4, "projection_norm")
        return jax.nn.relu(x + y)


class StandardisedConv(nn.Module):
    """A convolution whose kernel has mean 0 and deviation 1 for each output (Qiao et al. 2019).

    Attributes:
        features: output channels.
        side: of the kernel.
        stride: in both directions; padded as TensorFlow's SAME.
    """

    features: int
    side: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        axes = ("kernel", "kernel", "in", "out")
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
            (self.side, self.side, x.shape[-1], self.features),
        )
        kernel = kernel - kernel.mean(axis=(0, 1, 2), keepdims=True)
        kernel = kernel / (kernel.std(axis=(0, 1, 2), keepdims=True, ddof=1) + 1e-5)
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def hashed_places(rows: int, columns: int) -> Int[np.ndarray, " l"]:
    """Returns the place, on a square grid, of each of the patches of a picture, row by row."""

    def on_grid(count: int) -> np.ndarray:
        scale = np.float32(_GRID) / np.float32(count)  # in float32, as PyTorch's "nearest"
        return np.minimum(np.floor(np.arange(count, dtype=np.float32) * scale), _GRID - 1)

    return (on_grid(rows)[:, None] * _GRID + on_grid(columns)[None]).astype(int).reshape(-1)


def _patches(x: Float[Array, "b h w 3"]) -> Float[Array, "b rows columns p q 3"]:
    """The patches of a picture that zeros fill up on both sides, the odd row behind."""
    b, h, w, c = x.shape
    rows, columns = math.ceil(h / PATCH), math.ceil(w / PATCH)
    more = [n * PATCH - size for n, size in ((rows, h), (columns, w))]
    pads = [(0, 0), *((n // 2, n - n // 2) for n in more), (0, 0)]
    x = jnp.pad(x, pads).reshape(b, rows, PATCH, columns, PATCH, c)
    return x.transpose(0, 1, 3, 2, 4, 5)


def _normed(x: Float[Array, "n h w c"], epsilon: float, name: str) -> Float[Array, "n h w c"]:
    return GroupNorm(_GROUPS, epsilon, name=name)(x[:, None])[:, 0]
