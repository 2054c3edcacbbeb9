"""What a Qwen-VL network is given: tokens, and the patches of images and videos among them."""

from collections.abc import Mapping

import flax.struct

from vidpref.typing import PyTree

_OF_TOKENS = ("tokens", "mask", "positions", "features")
_OF_PATCHES = ("pixels", "mask", "at", "grid")


@flax.struct.dataclass
class Patches:
    """f frames a row, each of p patches; see `packing.py` for their order.

    A frame is an image, or `temporal_patch_size` frames of a video. Four (2 x 2) neighbouring
    patches that follow each other become one feature.

    Attributes:
        pixels: normalised pixels of every patch [b, f, p, c], in the order time, height, width,
            colour; zeros where `mask` is false.
        mask: True for patches that there are [b, f, p].
        at: row and column of a patch in its frame [b, f, p, 2].
        grid: rows and columns of a frame, in patches [b, f, 2].
    """

    # not typed as arrays: jax maps over this tree, so leaves are also shapes or shardings
    pixels: PyTree
    mask: PyTree
    at: PyTree
    grid: PyTree


@flax.struct.dataclass
class Inputs:
    """b rows of l tokens.

    Attributes:
        tokens: numbers of the tokens [b, l].
        mask: True where a token is real [b, l]; the others may lie left or right.
        positions: time, height and width of every token [b, l, 3]; see `positions.py`.
        features: which feature of its row's patches stands in the place of a token [b, l], -1 for
            text; f p / 4 features are numbered frame by frame.
        patches: `Patches`, None where all rows are text only.
    """

    tokens: PyTree
    mask: PyTree
    positions: PyTree
    features: PyTree
    patches: PyTree = None


def to_arrays(inputs: Inputs) -> dict[str, PyTree]:
    """Returns the arrays, or shapes, of rows with patches by name, as batches of training hold."""
    return {
        **{name: getattr(inputs, name) for name in _OF_TOKENS},
        **{f"patch_{name}": getattr(inputs.patches, name) for name in _OF_PATCHES},
    }


def from_arrays(arrays: Mapping[str, PyTree]) -> Inputs:
    """Returns the rows of `to_arrays`; other arrays are not looked at."""
    patches = Patches(*(arrays[f"patch_{name}"] for name in _OF_PATCHES))
    return Inputs(*(arrays[name] for name in _OF_TOKENS), patches)
