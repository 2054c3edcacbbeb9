"""Networks on clips of large frames: overlapping tiles one after another, faded into each other."""

import collections
import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.typing import Array, Float

Place = tuple[int, int]  # top and left of a tile


@dataclasses.dataclass(frozen=True)
class Cut:
    """How one axis of the frames is cut.

    Attributes:
        size: size of a tile of the input.
        step: distance from the start of a tile of the input to that of the next.
        fade: positions of the output over which a tile takes over from the one before.
        keep: positions of the output from the start of a tile to that of the next.
    """

    size: int
    step: int
    fade: int
    keep: int


def apply_by_tiles(
    module: nn.Module,
    run: Callable[[nn.Module, Array], Array],
    x: Float[Array, "b t h w c"],
    rows: Cut,
    columns: Cut,
) -> Float[Array, "b t2 h2 w2 d"]:
    """Returns `run(module, x)` made of tiles, which differs a little from that of whole frames.

    Frames that are no larger than a tile stay whole. The order of the fades is that of diffusers'
    `tiled_encode` and `tiled_decode`: a tile fades in from the finished one above it, then from the
    finished one on its left.

    Args:
        module: module that holds the parameters.
        run: `(module, tile) -> output`; a tile at the end of an axis may be smaller.
        x: the input.
        rows: cut of the height.
        columns: cut of the width.
    """
    h, w = x.shape[2:4]
    if h <= rows.size and w <= columns.size:
        return run(module, x)
    tops, lefts = range(0, h, rows.step), range(0, w, columns.step)
    tiles = {
        (top, left): x[:, :, top : top + rows.size, left : left + columns.size]
        for top in tops
        for left in lefts
    }
    done = _run_all(module, run, tiles)
    bands = []
    for top in tops:
        for left in lefts:
            tile = done[top, left]
            if top:
                tile = _fade(done[top - rows.step, left], tile, rows.fade, axis=2)
            if left:
                tile = _fade(done[top, left - columns.step], tile, columns.fade, axis=3)
            done[top, left] = tile
        band = [done[top, left][:, :, : rows.keep, : columns.keep] for left in lefts]
        bands.append(jnp.concatenate(band, axis=3))
    return jnp.concatenate(bands, axis=2)


def _run_all(
    module: nn.Module, run: Callable[[nn.Module, Array], Array], tiles: Mapping[Place, Array]
) -> dict[Place, Array]:
    """Tiles of one shape are scanned: one program for them, and one tile in memory at a time."""
    places = collections.defaultdict(list)
    for place, tile in tiles.items():
        places[tile.shape].append(place)
    scan = nn.scan(
        lambda module, carry, tile: (carry, run(module, tile)),
        variable_broadcast="params",
        split_rngs={"params": False},
    )
    done = {}
    for alike in places.values():
        _, results = scan(module, (), jnp.stack([tiles[place] for place in alike]))
        done.update(zip(alike, results, strict=True))
    return done


def _fade(before: Array, tile: Array, length: int, *, axis: int) -> Array:
    """The tile, its first positions mixed with the last ones of the tile before."""
    end = before.shape[axis]
    length = min(end, tile.shape[axis], length)
    shape = [1] * tile.ndim
    shape[axis] = length
    weight = (jnp.arange(length) / max(length, 1)).reshape(shape)
    old = jax.lax.slice_in_dim(before, end - length, end, axis=axis)
    new = jax.lax.slice_in_dim(tile, 0, length, axis=axis)
    rest = jax.lax.slice_in_dim(tile, length, None, axis=axis)
    return jnp.concatenate([old * (1 - weight) + new * weight, rest], axis=axis)
