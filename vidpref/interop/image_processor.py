"""Frames as CLIP and VideoMAE see them: resized, cropped or put on black, and normalised."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from vidpref.interop.json_fields import read_fields
from vidpref.typing import Array, Float, UInt8

PROCESSOR = "preprocessor_config.json"
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images
_STD = (0.26862954, 0.26130258, 0.27577711)
# What a file may say of steps that are always done here.
_FIXED = {
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
}


@dataclasses.dataclass(frozen=True)
class ImageProcessor:
    """An image processor with the numbers of transformers' own; CLIP's by default.

    Attributes:
        side: pixels of a side of the square that the network sees.
        fit: "crop" makes the shorter side fit and cuts the longer one (CLIP); "pad" makes the
            longer one fit and fills up with black (HPSv2).
        mean, std: of red, green and blue in [0, 1].
        resample: Pillow's number of the way to resize.
    """

    side: int = 224
    fit: str = "crop"
    mean: tuple[float, float, float] = _MEAN
    std: tuple[float, float, float] = _STD
    resample: int = int(PIL.Image.Resampling.BICUBIC)

    def __call__(self, frames: UInt8[Array, "n h w 3"]) -> Float[np.ndarray, "n s s 3"]:
        """Returns what the network is shown of frames."""
        square = np.stack([self._square(frame) for frame in np.asarray(frames)])
        # in the order and the types of transformers, so that no bit differs
        unit = (square.astype(np.float64) * _FIXED["rescale_factor"]).astype(np.float32)
        return (unit - np.float32(self.mean)) / np.float32(self.std)

    def _square(self, frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        h, w = frame.shape[:2]
        if self.fit == "pad":
            # `round` and the odd pixel behind, as in ResizeMaxSize of HPSv2's transform.py
            scale = self.side / max(h, w)
            size = round(h * scale) or 1, round(w * scale) or 1
            out = np.zeros((self.side, self.side, 3), np.uint8)
            top, left = ((self.side - n) // 2 for n in size)
            out[top : top + size[0], left : left + size[1]] = self._resized(frame, size)
            return out
        long = int(self.side * max(h, w) / min(h, w))
        size = (long, self.side) if h > w else (self.side, long)
        top, left = ((n - self.side) // 2 for n in size)
        resized = self._resized(frame, size)
        return resized[top : top + self.side, left : left + self.side]

    def _resized(self, frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        image = PIL.Image.fromarray(frame)
        return np.asarray(image.resize(size[::-1], PIL.Image.Resampling(self.resample)))


def read_processor(folder: Path, own: ImageProcessor, model: str = "CLIP") -> ImageProcessor:
    """Returns the image processor of a folder.

    Args:
        folder: of a model, as transformers has it.
        own: the processor of such models: of the size of the network's images, and what counts
            where the folder has no `PROCESSOR` or that does not say.
        model: what such a model is called.

    Raises:
        ValueError: a processor that does something else, or for images of another size.
    """
    path = folder / PROCESSOR
    if not path.exists():
        return own
    fields = read_fields(path)
    wrong = [
        f"{name}={fields[name]!r}"
        for name, value in {**_FIXED, "resample": own.resample}.items()
        if name in fields and not _same(fields[name], value)
    ]
    for name in ("size", "crop_size"):
        if name in fields and _side(fields[name]) != own.side:
            wrong.append(
                f"{name}={fields[name]!r}, and the network sees {own.side}x{own.side} pixels"
            )
    colours = {}
    for name, ours in (("image_mean", "mean"), ("image_std", "std")):
        given = fields.get(name, getattr(own, ours))
        if not _colour(given):
            wrong.append(f"{name}={given!r}")
        else:
            colours[ours] = tuple(map(float, given))
    if wrong:
        raise ValueError(f"{path} is not that of a {model} model: {'; '.join(wrong)}")
    return dataclasses.replace(own, **colours)


def _side(size: Any) -> Any:
    """The side of a square or the shorter side, however a file says it."""
    if isinstance(size, Mapping):
        return size.get("shortest_edge", size.get("height"))
    return size


def _colour(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and len(value) == 3
    return numbers and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)


def _same(value: Any, wanted: float | bool | int) -> bool:
    if isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    return isinstance(value, int | float) and abs(value - wanted) < 1e-6
