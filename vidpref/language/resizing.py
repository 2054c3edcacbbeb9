"""The sizes that vision-language models see frames in, and the two ways to get there."""

import dataclasses
import math

import numpy as np
import PIL.Image

from vidpref.typing import Array, Float, UInt8

_MOST_ASPECT = 200
RESIZERS = ("pillow", "float")


@dataclasses.dataclass(frozen=True)
class PixelBudget:
    """How large a frame, or a whole video, may be.

    Attributes:
        factor: sides are multiples of it: of a patch's side times the patches of a feature's.
        least: pixels of the smallest; smaller frames are enlarged.
        most: pixels of the largest; larger frames are shrunk.
        whole_video: whether both are of all frames together (Qwen3-VL's videos), or of each.
        one_factor_first: round short sides up to one factor before the budget is looked at, as
            qwen-vl-utils and VideoReward do and transformers does not.
    """

    factor: int
    least: int
    most: int
    whole_video: bool = False
    one_factor_first: bool = False

    def __post_init__(self):
        if self.factor < 1 or not 0 < self.least <= self.most:
            raise ValueError(
                f"a budget of {self.least} to {self.most} pixels in sides of {self.factor} cannot "
                "be: give 0 < least <= most and a factor of 1 or more"
            )

    def size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width that frames are resized to.

        Sides are rounded half to even, and the aspect is kept as well as the factor allows
        (`smart_resize` of transformers' Qwen2-VL, and of Qwen3-VL's videos).

        Args:
            frames: frames of the video, 2 or more where the budget is of the whole video.
            height: pixels.
            width: pixels.

        Raises:
            ValueError: sides that are too unequal, or too few frames.
        """
        factor, count = self.factor, 1
        if min(height, width, frames) < 1:
            raise ValueError(f"{frames} frames of {height}x{width} pixels are no video")
        if self.whole_video:
            if frames < 2:
                raise ValueError("a video of 1 frame has no pair of frames; give it as an image")
            count = frames
            if height < factor or width < factor:
                scale = max(factor / height, factor / width)
                height, width = int(height * scale), int(width * scale)
        if max(height, width) / min(height, width) > _MOST_ASPECT:
            raise ValueError(
                f"frames of {height}x{width} pixels are more than {_MOST_ASPECT} times as long in "
                "one direction as in the other"
            )
        sides = [round(side / factor) * factor for side in (height, width)]
        if self.one_factor_first:
            sides = [max(factor, side) for side in sides]
        rounded = round(frames / 2) * 2 if self.whole_video else 1
        area = count * height * width
        if rounded * math.prod(sides) > self.most:
            shrink = math.sqrt(area / self.most)
            sides = [
                max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width)
            ]
        elif rounded * math.prod(sides) < self.least:
            grow = math.sqrt(self.least / area)
            sides = [math.ceil(side * grow / factor) * factor for side in (height, width)]
        return sides[0], sides[1]


def resize(
    frames: UInt8[Array, "t h w c"], height: int, width: int, resizer: str
) -> UInt8[np.ndarray, "t h2 w2 c"]:
    """Returns frames of another size, by a bicubic filter that is widened where it shrinks.

    Args:
        frames: of one video.
        height: pixels.
        width: pixels.
        resizer: "pillow" rounds between the two directions, as the image processors of transformers
            do; "float" rounds once (`bicubic`), as VideoReward's frames were.

    Raises:
        ValueError: unknown resizer.
    """
    frames = np.asarray(frames)
    if resizer not in RESIZERS:
        raise ValueError(f"resizer={resizer!r} is unknown; known are {', '.join(RESIZERS)}")
    if frames.shape[1:3] == (height, width):
        return frames
    if resizer == "float":
        return np.rint(np.clip(bicubic(frames, height, width), 0, 255)).astype(np.uint8)
    size, filter_ = (width, height), PIL.Image.Resampling.BICUBIC
    return np.stack([np.asarray(PIL.Image.fromarray(f).resize(size, filter_)) for f in frames])


def bicubic(frames: Array, height: int, width: int) -> Float[np.ndarray, "t h2 w2 c"]:
    """Returns frames resized in float32, neither clipped nor rounded.

    Equal to `torch.nn.functional.interpolate(mode="bicubic", antialias=True)`: Keys' kernel with
    a = -0.5, whose support grows by the factor of shrinking.

    Args:
        frames: [t, h, w, c], bytes or floats.
        height: pixels.
        width: pixels.
    """
    t, h, w, c = frames.shape
    rows, columns = bicubic_weights(h, height), bicubic_weights(w, width)
    # two plain matrix products
    out = rows @ frames.astype(np.float32).reshape(t, h, w * c)
    out = out.reshape(t, height, w, c).swapaxes(2, 3).reshape(-1, w) @ columns.T
    return out.reshape(t, height, c, width).swapaxes(2, 3)


def bicubic_weights(size: int, target: int) -> Float[np.ndarray, "target size"]:
    """Returns what each pixel along one side counts for each new one, in `bicubic`.

    Args:
        size: pixels of the side.
        target: new ones.
    """
    scale = size / target
    wide = max(scale, 1.0)
    support = 2.0 * wide
    weights = np.zeros((target, size), np.float64)
    for i in range(target):
        center = scale * (i + 0.5)
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), size)
        own = _keys((np.arange(first, last) - center + 0.5) / wide)
        weights[i, first:last] = own / own.sum()
    return weights.astype(np.float32)


def _keys(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The cubic convolution kernel (Keys 1981, equation 4) with a = -0.5."""
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
