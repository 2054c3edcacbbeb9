"""How alike the pixels of two images are, and what of it lies around a place (RAFT, 3.2).

Values between pixels are interpolated by products with matrices of hat functions, which are zero
outside of the image; so there is nothing to gather, which accelerators do slowly.
"""

import jax
import jax.numpy as jnp

from vidpref.typing import Array, Float


def pyramid(
    first: Float[Array, "b h w c"], second: Float[Array, "b h w c"], levels: int
) -> list[Float[Array, "b l _ _"]]:
    """Returns the products of all pixels of `first` with those of `second`, over sqrt(c).

    Args:
        first: features of l = h w places.
        second: of the other image.
        levels: each has half the size of the one before, by means of 2x2.
    """
    b, h, w, c = first.shape
    volume = jnp.einsum("blc,byxc->blyx", first.reshape(b, h * w, c), second) / c**0.5
    found = [volume]
    for _ in range(levels - 1):
        y, x = (size // 2 for size in volume.shape[2:])
        volume = volume[:, :, : 2 * y, : 2 * x].reshape(b, h * w, y, 2, x, 2).mean(axis=(3, 5))
        found.append(volume)
    return found


def around(
    volumes: list[Float[Array, "b l _ _"]], places: Float[Array, "b h w 2"], radius: int
) -> Float[Array, "b h w k"]:
    """Returns the products around a place of every pixel, on all levels.

    Args:
        volumes: from `pyramid`.
        places: (x, y) in pixels of the first level.
        radius: pixels of each level to either side.
    """
    b, h, w, _ = places.shape
    steps = jnp.arange(-radius, radius + 1, dtype=jnp.float32)[None, None]
    found = []
    for level, volume in enumerate(volumes):
        centre = places.reshape(b, h * w, 2) / 2**level
        columns = hats(centre[..., :1] + steps, volume.shape[3])
        rows = hats(centre[..., 1:] + steps, volume.shape[2])
        # x runs slowest, as in the published weights' order of features
        found.append(jnp.einsum("blyx,blix,bljy->blij", volume, columns, rows).reshape(b, h, w, -1))
    return jnp.concatenate(found, axis=-1)


def hats(places: Float[Array, "*k n"], size: int) -> Float[Array, "*k n m"]:
    """Returns what each of m = `size` points counts for values at `places` between them."""
    points = jnp.arange(size, dtype=jnp.float32).reshape((1,) * places.ndim + (size,))
    return jax.nn.relu(1 - jnp.abs(places[..., None] - points))
