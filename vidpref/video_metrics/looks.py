"""Frames as the networks of public metrics see them, on the devices: resized, cut, normalised."""

import dataclasses
import math

import jax.numpy as jnp

from vidpref.models.interpolation import resize
from vidpref.typing import Array, Float, UInt8


@dataclasses.dataclass(frozen=True)
class Look:
    """torchvision's `Resize` of byte tensors without antialiasing, `CenterCrop` and `Normalize`.

    So VBench shows frames to its networks.

    Attributes:
        side: pixels of the shorter side.
        method: "linear" or "cubic".
        crop: whether a square is cut out of the middle.
        mean, std: of red, green and blue in [0, 1].
    """

    side: int
    method: str
    crop: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, frames: UInt8[Array, "n h w 3"]) -> Float[Array, "n h2 w2 3"]:
        """Returns what the network is shown."""
        h, w = frames.shape[1:3]
        long = int(self.side * max(h, w) / min(h, w))
        height, width = (long, self.side) if h > w else (self.side, long)
        x = resize(frames.astype(jnp.float32), height, width, self.method)
        x = jnp.clip(jnp.round(x), 0.0, 255.0)  # bytes again
        if self.crop:
            top, left = (round((n - self.side) / 2.0) for n in (height, width))
            x = x[:, top : top + self.side, left : left + self.side]
        mean, std = (jnp.array(c).reshape(1, 1, 1, 3) for c in (self.mean, self.std))
        return (x / 255.0 - mean) / std


def middle_square(frames: UInt8[Array, "*b h w 3"], side: int) -> Float[Array, "*b s s 3"]:
    """Returns the middle of frames in [-1, 1], as StyleGAN-V's FVD shows it to I3D.

    The shorter side becomes `side` without antialiasing, the longer one is rounded up.
    """
    *b, h, w, _ = frames.shape
    height = side if h < w else math.ceil(h * (side / min(h, w)))
    width = math.ceil(w * (side / min(h, w))) if h < w else side
    flat = frames.reshape(-1, h, w, 3).astype(jnp.float32) / 255.0
    x = resize(flat, height, width, "linear")
    top, left = (height - side) // 2, (width - side) // 2
    x = x[:, top : top + side, left : left + side]
    return (2.0 * x - 1.0).reshape(*b, side, side, 3)


def whole_square(frames: UInt8[Array, "n h w 3"], side: int) -> Float[Array, "n s s 3"]:
    """Returns whole frames in [-1, 1], squeezed into a square as pytorch-fid does."""
    return 2.0 * resize(frames.astype(jnp.float32) / 255.0, side, side, "linear") - 1.0


def at_most(frames: UInt8[Array, "n h w 3"], longest: int) -> Float[Array, "n h2 w2 3"]:
    """Returns frames in [-1, 1], shrunk where the longer side has more than `longest` pixels.

    So VBench shows them to MUSIQ (its mode "longer").
    """
    h, w = frames.shape[1:3]
    x = frames.astype(jnp.float32)
    if max(h, w) > longest:
        scale = longest / max(h, w)
        x = resize(x, int(scale * h), int(scale * w), "linear")
    return 2.0 * (x / 255.0) - 1.0
