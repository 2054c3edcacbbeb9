"""Frames as pictures to look at: enlarged without blur, and as PNG files."""

import io

import numpy as np
import PIL.Image

from vidpref.typing import Array, UInt8


def enlarge(clip: UInt8[Array, "t h w 3"], *, min_side: int) -> UInt8[np.ndarray, "t h2 w2 3"]:
    """Repeats pixels by the smallest whole factor that makes both sides at least `min_side`."""
    clip = np.asarray(clip)
    factor = max(1, -(-min_side // min(clip.shape[1:3])))
    return clip.repeat(factor, axis=1).repeat(factor, axis=2)


def encode_png(image: UInt8[Array, "h w 3"]) -> bytes:
    """Returns an RGB image as the bytes of a PNG file, without loss."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.asarray(image)).save(file, "PNG")
    return file.getvalue()
