"""Resizing as PyTorch's `interpolate(align_corners=False)` without antialiasing does it.

One side is a matrix [out, in] of weights, made on the host; an image is resized by two of them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.typing import Array, Float

_SHARPNESS = -0.75  # of the cubic, as in PyTorch and OpenCV; Pillow's and jax's is -0.5
METHODS = ("linear", "cubic")


def weights(
    size: int, out: int, method: str, scale: float | None = None
) -> Float[np.ndarray, "{out} {size}"]:
    """Returns what each of `size` points counts for each of `out` points.

    Args:
        size: points that there are.
        out: points that are wanted.
        method: one of `METHODS`: between the 2 or the 4 nearest points; those beyond an end are
            the last one.
        scale: points that are wanted for a point that there is; out / size if None.

    Raises:
        ValueError: an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: known are {', '.join(METHODS)}")
    places = (np.arange(out) + 0.5) / (out / size if scale is None else scale) - 0.5
    if method == "linear":
        places = np.maximum(places, 0.0)
    first = np.floor(places).astype(int)
    found = np.zeros((out, size), np.float32)
    for step in (0, 1) if method == "linear" else (-1, 0, 1, 2):
        near = first + step
        apart = np.abs(places - near)
        counts = 1 - apart if method == "linear" else _cubic(apart)
        np.add.at(found, (np.arange(out), np.clip(near, 0, size - 1)), counts.astype(np.float32))
    return found


def resize(
    images: Float[Array, "b h w c"], height: int, width: int, method: str
) -> Float[jax.Array, "b {height} {width} c"]:
    """Returns images of another size; those that have it as they are.

    Args:
        images: images.
        height: rows that are wanted.
        width: columns that are wanted.
        method: see `weights`.
    """
    h, w = images.shape[1:3]
    x = jnp.asarray(images)
    if h != height:
        x = jnp.einsum("yh,bhwc->bywc", weights(h, height, method), x)
    if w != width:
        x = jnp.einsum("xw,bywc->byxc", weights(w, width, method), x)
    return x


def _cubic(apart: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The cubic convolution kernel of Keys (1981) at distances up to 2."""
    a = _SHARPNESS
    near = (a + 2) * apart**3 - (a + 3) * apart**2 + 1
    far = a * (apart**3 - 5 * apart**2 + 8 * apart - 4)
    return np.where(apart <= 1, near, far)
