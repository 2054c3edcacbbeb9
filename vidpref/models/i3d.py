"""I3D (Carreira and Zisserman 2017): the RGB network of Kinetics-400 that FVD is measured by."""

import flax.linen as nn
import jax

from vidpref.models.norm import StoredNorm
from vidpref.typing import Array, Float

SIDE = 224  # pixels of a frame's side
FEWEST = 9  # frames: the last pooling is over two of an eighth of them

# Output channels of each block: 1x1x1; 1x1x1 and 3x3x3; 1x1x1 and 3x3x3; pooling and 1x1x1
_BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOLED_BEFORE = {"Mixed_4b": (3, 3, 3), "Mixed_5b": (2, 2, 2)}


class I3d(nn.Module):
    """Inception-v1 with every kernel inflated over time; names are those of pytorch-i3d.

    Attributes:
        classes: of Kinetics.
        epsilon: of the norms. DeepMind's network and pytorch-i3d have 1e-3; the copy of
            pytorch-i3d in VideoGPT, which TATS, common_metrics_on_video_quality and cd-fvd took
            over, has 1e-5.
    """

    classes: int = 400
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, clips: Float[Array, "b t 224 224 3"]) -> Float[Array, "b c"]:
        """Returns the logits of clips, averaged over time: the features of FVD.

        Args:
            clips: in [-1, 1].

        Raises:
            ValueError: fewer than `FEWEST` frames.
        """
        if clips.shape[1] < FEWEST:
            raise ValueError(f"I3D needs {FEWEST} frames, and a clip has {clips.shape[1]}")
        eps = self.epsilon
        x = Unit(64, (7, 7, 7), eps, 2, name="Conv3d_1a_7x7")(clips)
        x = _pooled(x, (1, 3, 3), (1, 2, 2))
        x = Unit(64, (1, 1, 1), eps, name="Conv3d_2b_1x1")(x)
        x = Unit(192, (3, 3, 3), eps, name="Conv3d_2c_3x3")(x)
        x = _pooled(x, (1, 3, 3), (1, 2, 2))
        for name, widths in _BLOCKS.items():
            if name in _POOLED_BEFORE:
                x = _pooled(x, _POOLED_BEFORE[name], (2, 2, 2))
            x = InceptionBlock(widths, eps, name=name)(x)
        x = nn.avg_pool(x, (2, 7, 7), strides=(1, 1, 1), padding="VALID")
        logits = _Logits(self.classes, name="logits")(x)
        return logits.mean(axis=(1, 2, 3))


class InceptionBlock(nn.Module):
    """Four branches side by side.

    Attributes:
        widths: output channels, see `_BLOCKS`.
        epsilon: of the norms.
    """

    widths: tuple[int, int, int, int, int, int]
    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w d"]:
        def unit(name: str, width: int, side: int, x: Array) -> Array:
            return Unit(width, (side, side, side), self.epsilon, name=name)(x)

        a, b, c, d, e, f = self.widths
        branches = [
            unit("b0", a, 1, x),
            unit("b1b", c, 3, unit("b1a", b, 1, x)),
            unit("b2b", e, 3, unit("b2a", d, 1, x)),
            unit("b3b", f, 1, _pooled(x, (3, 3, 3), (1, 1, 1))),
        ]
        return jax.numpy.concatenate(branches, axis=-1)


class Unit(nn.Module):
    """A convolution, a norm by stored statistics, and a ReLU; padded as TensorFlow's SAME.

    Attributes:
        features: output channels.
        kernel: its sides over (t, h, w).
        epsilon: of the norm.
        stride: in all directions.
    """

    features: int
    kernel: tuple[int, int, int]
    epsilon: float
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 f"]:
        x = _conv(self.features, self.kernel, self.stride, bias=False)(x)
        return jax.nn.relu(StoredNorm(self.epsilon, name="bn")(x))


class _Logits(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w f"]:
        return _conv(self.classes, (1, 1, 1), 1, bias=True)(x)


def _conv(features: int, kernel: tuple[int, int, int], stride: int, *, bias: bool) -> nn.Conv:
    axes = ("kernel", "kernel", "kernel", "in", "out")
    return nn.Conv(
        features,
        kernel,
        strides=(stride, stride, stride),
        padding="SAME",
        use_bias=bias,
        kernel_init=nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ("out",)),
        name="conv3d",
    )


def _pooled(x: Array, window: tuple[int, int, int], strides: tuple[int, int, int]) -> Array:
    """The largest in each window. What SAME adds is never it: behind a ReLU nothing is below 0."""
    return nn.max_pool(x, window, strides=strides, padding="SAME")
