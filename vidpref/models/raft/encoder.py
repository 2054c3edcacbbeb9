"""RAFT's encoders: features of an image at an eighth of its size (Teed and Deng 2020, 3.1)."""

import flax.linen as nn
import jax

from vidpref.models.raft.convolutions import ConvNorm, conv
from vidpref.typing import Array, Float

STRIDE = 8
_STRIDES = (1, 2, 2)  # of the three stages; the first convolution has 2


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the input.

    Attributes:
        features: output channels.
        stride: of the first convolution.
        norm: of its convolutions, see `ConvNorm`.
    """

    features: int
    stride: int
    norm: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        y = ConvNorm(self.features, 3, self.stride, self.norm, name="convnormrelu1")(x)
        y = ConvNorm(self.features, 3, 1, self.norm, name="convnormrelu2")(y)
        return jax.nn.relu(_beside(x, self.features, self.stride, self.norm) + y)


class BottleneckBlock(nn.Module):
    """A 3x3 convolution of a quarter of the channels, beside the input; attributes as above."""

    features: int
    stride: int
    norm: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        y = ConvNorm(self.features // 4, 1, 1, self.norm, name="convnormrelu1")(x)
        y = ConvNorm(self.features // 4, 3, self.stride, self.norm, name="convnormrelu2")(y)
        y = ConvNorm(self.features, 1, 1, self.norm, name="convnormrelu3")(y)
        return jax.nn.relu(_beside(x, self.features, self.stride, self.norm) + y)


class Encoder(nn.Module):
    """Three stages of two blocks.

    Attributes:
        channels: of the first convolution, of the three stages, and of the output.
        bottleneck: whether blocks are `BottleneckBlock`s.
        norm: see `ConvNorm`.
    """

    channels: tuple[int, int, int, int, int]
    bottleneck: bool
    norm: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h8 w8 c"]:
        block = BottleneckBlock if self.bottleneck else ResidualBlock
        x = ConvNorm(self.channels[0], 7, 2, self.norm, name="convnormrelu")(x)
        for i, stride in enumerate(_STRIDES):
            features = self.channels[i + 1]
            x = block(features, stride, self.norm, name=f"layer{i + 1}_0")(x)
            x = block(features, 1, self.norm, name=f"layer{i + 1}_1")(x)
        return conv(self.channels[-1], (1, 1), name="output")(x)


def _beside(x: Array, features: int, stride: int, norm: str) -> Array:
    if stride == 1:
        return x
    return ConvNorm(features, 1, stride, norm, relu=False, name="downsample")(x)
