"""How much of every pixel is made of each object's colour, by non-negative least squares.

A mask by colour distance leaks at the edges of furniture, where pixels are mixtures. The prompt
says which colours can occur and the furniture is known, so every pixel is backdrop plus a mixture
of at most two known colours.
"""

import functools

import numpy as np

from vidpref.datasets.miniworld.rendering import BACKGROUND, backdrop
from vidpref.datasets.miniworld.vocabulary import MATERIALS
from vidpref.typing import Array, Bool, Float

_FAINT = 0.12  # below this share of its 3x3 neighbourhood a colour is taken for noise
_ALIKE = 0.9  # squared cosine above which two colours are not told apart


def box_mean(x: Float[Array, "*n h w"]) -> Float[Array, "*n h w"]:
    """Mean over 3x3 pixels, zero outside the picture."""
    rows = x.copy()
    rows[..., 1:, :] += x[..., :-1, :]
    rows[..., :-1, :] += x[..., 1:, :]
    total = rows.copy()
    total[..., 1:] += rows[..., :-1]
    total[..., :-1] += rows[..., 1:]
    total /= 9
    return total


def outline(cover: Float[Array, "*n h w"]) -> Bool[Array, "*n h w"]:
    """Pixels within one of an edge of what covers the picture."""
    near, far = box_mean(cover), box_mean(1 - cover)
    return (near > 0.05) & (far > 0.05)


@functools.cache
def furniture_edges(furniture: str) -> Bool[Array, "h w"]:
    """The outline of furniture that is where it belongs."""
    white = backdrop(furniture, "white" if furniture != "none" else "")
    return outline((white != backdrop("none", "")).any(-1).astype(np.float32))


def ignore_soft_furniture(
    difference: Float[Array, "n t h w c"],
    directions: Float[Array, "n o h w c"],
    edges: Bool[Array, "m h w"],
    materials: list[str],
) -> tuple[Float[Array, "n t h w c"], Float[Array, "n o h w c"]]:
    """Takes the furniture's own colour out of the pixels along its outline.

    A generator draws outlines a little softer than they are. Without this, half a pixel of white
    table top counts as a good deal of yellow ball.

    Args:
        difference: clip minus empty stage, of [0, 1].
        directions: object colour minus empty stage.
        edges: the outline, of each clip or (m = 1) of all.
        materials: materials of the furniture, one a clip.
    """
    axis = np.float32([np.subtract(MATERIALS[m], BACKGROUND) for m in materials])
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    along = np.einsum("nohwc,nc->nohw", directions, axis)
    # Brown and yellow lie almost in one direction: there nothing of the object would be left.
    distinct = (along**2 < _ALIKE * (directions**2).sum(-1)).all(1)
    where = (distinct & edges).astype(np.float32)
    directions = directions - (along * where[:, None])[..., None] * axis[:, None, None, None]
    along = np.einsum("nthwc,nc->nthw", difference, axis)
    difference = difference - (along * where[:, None])[..., None] * axis[:, None, None, None]
    return difference, directions


def unmix(
    difference: Float[Array, "n t h w c"], directions: Float[Array, "n o h w c"]
) -> Float[Array, "n o t h w"]:
    """Shares of one or two colours.

    Args:
        difference: clip minus empty stage.
        directions: object colour minus empty stage, of each object.

    Returns:
        The share of each object in every pixel; 0 where the neighbourhood holds nothing of it.
    """
    along = np.einsum("nthwc,nohwc->nothw", difference, directions)
    squared = np.sum(directions**2, -1)
    alone = along / squared[:, :, None]
    if directions.shape[1] == 1:
        share = alone
    else:
        cross = np.sum(directions[:, 0] * directions[:, 1], -1)[:, None]
        (a2, b2), (a, b) = squared[:, :, None].swapaxes(0, 1), along.swapaxes(0, 1)
        determinant = a2 * b2 - cross**2
        first, second = (b2 * a - cross * b) / determinant, (a2 * b - cross * a) / determinant
        share = np.stack([first, second], 1)
        # Where one share comes out negative the other explains the pixel alone.
        share = np.where(share[:, ::-1] < 0, alone, share)
        share = np.where(np.stack([first, second], 1) < 0, 0, share)
    return share * (box_mean(share) > _FAINT)
