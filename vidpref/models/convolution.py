"""Convolutions of frames and patches, and the rearrangements between pixels and channels."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.dense import product
from vidpref.typing import Array, Float

IMPLEMENTATIONS = ("xla", "matmul")


class SpatialConv(nn.Module):
    """A 3x3 convolution of every frame, zero-padded to the same size.

    Attributes:
        features: output channels.
        implementation: "xla" is the compiler's convolution; "matmul" is the gathered
            neighbourhood times the kernel as ONE matrix product, several times faster with
            XLA on CPU. Both have the same parameters and results.
        zero: start from zero.
        dtype: type of the computation.
    """

    features: int
    implementation: str = "xla"
    zero: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w f"]:
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(f"conv={self.implementation!r} is unknown; known: {IMPLEMENTATIONS}")
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(init, ("kernel", "kernel", "in", "out")),
            (3, 3, x.shape[-1], self.features),
        )
        bias = self.param(
            "bias",
            nn.with_logical_partitioning(nn.initializers.zeros, ("out",)),
            (self.features,),
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        frames = x.reshape(-1, *x.shape[2:])
        if self.implementation == "xla":
            out = jax.lax.conv_general_dilated(
                frames, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        else:
            out = _matmul_conv(frames, kernel)
        return (out + bias[None, None, None]).reshape(*x.shape[:-1], self.features)


class PatchEmbedding(nn.Module):
    """A convolution whose stride is its kernel, as one matrix product: clips to tokens.

    Attributes:
        features: features of a token.
        patch: (t, h, w) of the kernel, or (h, w) for a kernel of single frames.
        bias: whether it has a bias.
        dtype: type of the computation.
    """

    features: int
    patch: tuple[int, ...]
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], split: Callable[[Array], Array] = lambda x: x
    ) -> Float[Array, "b l d"]:
        """Returns the tokens, w fastest.

        Args:
            x: clips.
            split: what becomes of the patches [b, l, .] before they are multiplied.
        """
        axes = ("kernel",) * len(self.patch) + ("in", "out")
        kernel = self.param(
            "kernel",
            nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
            (*self.patch, x.shape[-1], self.features),
        )
        pt, ph, pw = (1, *self.patch)[-3:]
        patches = space_to_channels(x, (pt, ph, pw))
        patches = split(patches.reshape(x.shape[0], -1, patches.shape[-1]))
        patches, kernel = nn.dtypes.promote_dtype(patches, kernel, dtype=self.dtype)
        out = product(patches, kernel.reshape(-1, self.features))
        if self.bias:
            init = nn.with_logical_partitioning(nn.initializers.zeros, ("out",))
            bias = self.param("bias", init, (self.features,)).astype(out.dtype)
            out = out + bias[None, None]
        return out


def _matmul_conv(x: Float[Array, "b h w c"], kernel: Array) -> Float[Array, "b h w f"]:
    b, h, w, c = x.shape
    if h * w <= 9:
        return _dense_conv(x, kernel)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    gathered = jnp.concatenate(taps, axis=-1).reshape(-1, 9 * c)
    return (gathered @ kernel.reshape(9 * c, -1)).reshape(b, h, w, -1)


def _dense_conv(x: Float[Array, "b h w c"], kernel: Array) -> Float[Array, "b h w f"]:
    # on a grid of at most 9 positions the matrix over all positions is smaller than 9 taps each
    b, h, w, c = x.shape
    f = kernel.shape[-1]
    zero = jnp.zeros((c, f), kernel.dtype)

    def tap(p: int, q: int) -> Array:
        i, j = p // w - q // w + 1, p % w - q % w + 1
        return kernel[i, j] if 0 <= i <= 2 and 0 <= j <= 2 else zero

    rows = [jnp.concatenate([tap(p, q) for q in range(h * w)], axis=1) for p in range(h * w)]
    return (x.reshape(b, h * w * c) @ jnp.concatenate(rows, axis=0)).reshape(b, h, w, f)


def space_to_channels(
    x: Float[Array, "b t h w c"], patch: tuple[int, int, int]
) -> Float[Array, "b t2 h2 w2 d"]:
    """Moves patches (pt, ph, pw) of positions into channels; c runs fastest.

    Raises:
        ValueError: the clip is no multiple of the patch.
    """
    b, t, h, w, c = x.shape
    pt, ph, pw = patch
    if t % pt or h % ph or w % pw:
        raise ValueError(f"a clip of {(t, h, w)} (t, h, w) is no multiple of the patch {patch}")
    if patch == (1, 1, 1):
        return x
    x = x.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, t // pt, h // ph, w // pw, -1)


def channels_to_space(
    x: Float[Array, "b t2 h2 w2 d"], patch: tuple[int, int, int]
) -> Float[Array, "b t h w c"]:
    """The inverse of `space_to_channels`."""
    b, t, h, w, _ = x.shape
    pt, ph, pw = patch
    if patch == (1, 1, 1):
        return x
    x = x.reshape(b, t, h, w, pt, ph, pw, -1).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(b, t * pt, h * ph, w * pw, -1)
