"""Rows of tokens, images and videos as the arrays that a Qwen-VL network takes."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.models.qwen_vl.configuration import QwenVLConfig, VisionConfig
from vidpref.models.qwen_vl.inputs import Inputs, Patches
from vidpref.models.qwen_vl.positions import Media, mrope_positions, sequential_positions
from vidpref.typing import Array, Int


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a batch.

    Attributes:
        tokens: its tokens [l], with one token in the place of every feature.
        media: its images and videos, in order.
        pixels: patches of each, [t, h w, c] in the order of `patch_order`.
    """

    tokens: Int[Array, " l"]
    media: Sequence[Media] = ()
    pixels: Sequence[Array] = ()


@dataclasses.dataclass(frozen=True)
class Room:
    """The size of a batch's arrays; rows that are larger are refused.

    Attributes:
        tokens: l; None for the longest row's.
        frames: f of `Patches`; None for the most of a row.
        patches: p of `Patches`; None for those of the largest frame.
    """

    tokens: int | None = None
    frames: int | None = None
    patches: int | None = None


def pack(
    rows: Sequence[Row],
    config: QwenVLConfig,
    room: Room = Room(),
    *,
    after: str | None = "max",
    left: bool = False,
    pad: int = 0,
) -> Inputs:
    """Returns rows as arrays of one size.

    Args:
        rows: at least one.
        config: the model's.
        room: size of the arrays.
        after: see `mrope_positions`; None counts tokens, features too (`sequential_positions`).
        left: whether padding is on the left; of scores it is on the right.
        pad: token of the padding, which nothing sees.

    Raises:
        ValueError: a row that is larger than the room, has tokens beyond the embedding, or whose
            tokens, media and patches do not fit each other.
    """
    longest = room.tokens or max(len(row.tokens) for row in rows)
    b = len(rows)
    tokens = np.full((b, longest), pad, np.int32)
    mask = np.zeros((b, longest), bool)
    positions = np.zeros((b, longest, 3), np.int32)
    features = np.full((b, longest), -1, np.int32)
    layouts = [[_Layout.of(part, config.vision) for part in row.media] for row in rows]
    patches = _patches(rows, layouts, config.vision, room)
    units = 0 if patches is None else patches.pixels.shape[2] // config.vision.merged
    for i, row in enumerate(rows):
        try:
            _check(row, config, longest)
            own = (
                sequential_positions(len(row.tokens))
                if after is None
                else mrope_positions(np.asarray(row.tokens), row.media, config, after=after)[0]
            )
            places = _places(row, layouts[i], config, units)
        except ValueError as error:
            raise ValueError(f"row {i} of the batch: {error}") from error
        l = len(row.tokens)
        here = slice(longest - l, longest) if left else slice(0, l)
        tokens[i, here], mask[i, here] = row.tokens, True
        positions[i, here], features[i, here] = own, places
    return Inputs(tokens, mask, positions, features, patches)


def shapes_of(
    config: QwenVLConfig, room: Room, dtype: DTypeLike
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the arrays that `to_arrays` gives of one row, as shapes without the axis of rows.

    Args:
        config: the model's.
        room: size of the arrays, of which nothing is None.
        dtype: type of the pixels.
    """
    l, f, p = room.tokens, room.frames, room.patches
    whole = {"tokens": (l,), "positions": (l, 3), "features": (l,)}
    whole |= {"patch_at": (f, p, 2), "patch_grid": (f, 2)}
    found = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in whole.items()}
    masks = {"mask": (l,), "patch_mask": (f, p)}
    found |= {name: jax.ShapeDtypeStruct(shape, jnp.bool_) for name, shape in masks.items()}
    vision = config.vision
    size = vision.temporal_patch_size * vision.patch_size**2 * vision.in_channels
    return {**found, "patch_pixels": jax.ShapeDtypeStruct((f, p, size), jnp.dtype(dtype))}


def smallest(config: QwenVLConfig, more: int = 0) -> Inputs:
    """Returns the smallest inputs with an image, for `init` of a network.

    Args:
        config: the model's.
        more: tokens of text behind the image.
    """
    vision = config.vision
    side = vision.spatial_merge_size
    media = Media((1, side, side), False)
    size = vision.temporal_patch_size * vision.patch_size**2 * vision.in_channels
    pixels = np.zeros((1, vision.merged, size), np.float32)
    tokens = np.array([config.image_token_id, *[0] * more])
    return pack([Row(tokens, [media], [pixels])], config)


@functools.lru_cache(maxsize=256)
def patch_order(h: int, w: int, merge: int) -> Int[np.ndarray, "n 2"]:
    """Returns row and column of the patches of a frame, those of a feature next to each other.

    Read-only: the frames of many clips have one size.

    Args:
        h: rows of patches.
        w: columns of patches.
        merge: patches of the side of a feature.
    """
    at = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), axis=-1)
    blocks = at.reshape(h // merge, merge, w // merge, merge, 2)
    order = blocks.transpose(0, 2, 1, 3, 4).reshape(-1, 2).astype(np.int32)
    order.flags.writeable = False
    return order


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the patches of a frame lie in the network's arrays.

    Attributes:
        at: row and column of each patch, in `patch_order`.
        units: place of every feature among the features of its frame.
        patches: places of a frame, the free ones too.
    """

    at: np.ndarray
    units: np.ndarray
    patches: int

    @classmethod
    def of(cls, media: Media, config: VisionConfig) -> "_Layout":
        _, h, w = media.grid
        merge, window = config.spatial_merge_size, config.window
        if min(media.grid) < 1 or h % merge or w % merge:
            raise ValueError(
                f"a grid of {media.grid} patches (t, h, w) is no multiple of (1, {merge}, {merge})"
            )
        at = patch_order(h, w, merge)
        if window is None:
            return cls(at, np.arange(h * w // config.merged), h * w)
        # every window has its own places, so that attention within windows is a reshape
        row, column = np.divmod(np.arange(h * w // config.merged), w // merge)
        across = -(-w // (merge * window))
        number = row // window * across + column // window
        units = number * window**2 + row % window * window + column % window
        down = -(-h // (merge * window))
        return cls(at, units, across * down * window**2 * config.merged)


def _patches(
    rows: Sequence[Row], layouts: list[list[_Layout]], config: VisionConfig, room: Room
) -> Patches | None:
    counts = [sum(part.grid[0] for part in row.media) for row in rows]
    f = max(counts) if room.frames is None else room.frames
    if f == 0 and not any(counts):
        return None
    sizes = [layout.patches for own in layouts for layout in own]
    unit = config.merged * (config.window or 1) ** 2
    p = room.patches or max(sizes, default=unit)
    for i, count in enumerate(counts):
        large = max((layout.patches for layout in layouts[i]), default=0)
        if count > f or large > p:
            raise ValueError(
                f"row {i} of the batch has {count} frames of up to {large} patches, and there is "
                f"room for {f} of {p}; take fewer frames or smaller ones"
            )
    if p % unit:
        raise ValueError(f"patches={p} must be a multiple of {unit}")
    side = config.patch_size
    c = config.temporal_patch_size * side**2 * config.in_channels
    shape = (len(rows), f, p)
    pixels, mask = np.zeros((*shape, c), np.float32), np.zeros(shape, bool)
    at, grid = np.zeros((*shape, 2), np.int32), np.zeros((*shape[:2], 2), np.int32)
    for i, row in enumerate(rows):
        frame = 0
        for media, layout, own in zip(row.media, layouts[i], row.pixels, strict=True):
            t, h, w = media.grid
            if own.shape != (t, h * w, c):
                raise ValueError(
                    f"row {i} of the batch: an image or video has patches {own.shape}, its grid "
                    f"{media.grid} wants {(t, h * w, c)}"
                )
            here = slice(frame, frame := frame + t)
            places = (layout.units[:, None] * config.merged + np.arange(config.merged)).reshape(-1)
            pixels[i, here, places] = own.swapaxes(0, 1)
            mask[i, here, places] = True
            at[i, here, places] = layout.at[:, None]
            grid[i, here] = h, w
    return Patches(pixels, mask, at, grid)


def _places(
    row: Row, layouts: list[_Layout], config: QwenVLConfig, units: int
) -> Int[np.ndarray, " l"]:
    """Which feature stands in the place of every token."""
    places = np.full(len(row.tokens), -1, np.int32)
    tokens = np.asarray(row.tokens)
    pads = (tokens == config.image_token_id) | (tokens == config.video_token_id)
    numbers, frame = [], 0
    for media, layout in zip(row.media, layouts, strict=True):
        frames = frame + np.arange(media.grid[0])
        numbers.append((frames[:, None] * units + layout.units).reshape(-1))
        frame += media.grid[0]
    wanted = np.concatenate(numbers) if numbers else np.zeros(0, np.int32)
    if pads.sum() != len(wanted):
        raise ValueError(
            f"it has {pads.sum()} tokens for features, and its images and videos {len(wanted)}"
        )
    places[pads] = wanted
    return places


def _check(row: Row, config: QwenVLConfig, longest: int) -> None:
    vocabulary = config.text.vocab_size
    if len(row.tokens) > longest:
        raise ValueError(f"it has {len(row.tokens)} tokens, and there is room for {longest}")
    tokens = np.asarray(row.tokens)
    beyond = tokens[(tokens < 0) | (tokens >= vocabulary)]
    if len(beyond):
        raise ValueError(
            f"token {beyond[0]} is not among the {vocabulary} of the embedding: is the tokenizer "
            "that of this model?"
        )
