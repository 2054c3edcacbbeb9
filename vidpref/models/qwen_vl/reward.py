"""A Qwen-VL model that scores videos: states of some tokens through a linear head."""

from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.dense import dense
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.inputs import Inputs, Patches
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room, smallest
from vidpref.typing import Array, Float, PyTree

_OF_TOKENS = ("tokens", "mask", "positions", "features")
_OF_PATCHES = ("pixels", "mask", "at", "grid")


@flax.struct.dataclass
class RewardInputs:
    """b rows that are scored in d dimensions.

    Attributes:
        inputs: tokens, and patches of the videos.
        at: place of the token that each dimension is read off [b, d].
    """

    # not typed as arrays: jax maps over this tree, so leaves are also shapes or shardings
    inputs: Inputs
    at: PyTree


def to_arrays(rows: RewardInputs) -> dict[str, PyTree]:
    """Returns the arrays, or shapes, of rows with videos by name, as batches of training hold."""
    inputs, patches = rows.inputs, rows.inputs.patches
    return {
        "at": rows.at,
        **{name: getattr(inputs, name) for name in _OF_TOKENS},
        **{f"patch_{name}": getattr(patches, name) for name in _OF_PATCHES},
    }


def shapes_of(
    config: QwenVLConfig, dimensions: int, room: Room, dtype: DTypeLike
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the arrays that `to_arrays` gives of one row, as shapes without the axis of rows.

    Args:
        config: the model's.
        dimensions: number of dimensions.
        room: size of the arrays, of which nothing is None.
        dtype: type of the pixels.
    """
    l, f, p = room.tokens, room.frames, room.patches
    whole = {"tokens": (l,), "positions": (l, 3), "features": (l,), "at": (dimensions,)}
    whole |= {"patch_at": (f, p, 2), "patch_grid": (f, 2)}
    found = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in whole.items()}
    masks = {"mask": (l,), "patch_mask": (f, p)}
    found |= {name: jax.ShapeDtypeStruct(shape, jnp.bool_) for name, shape in masks.items()}
    vision = config.vision
    size = vision.temporal_patch_size * vision.patch_size**2 * vision.in_channels
    return {**found, "patch_pixels": jax.ShapeDtypeStruct((f, p, size), jnp.dtype(dtype))}


def from_arrays(arrays: Mapping[str, PyTree]) -> RewardInputs:
    """Returns the rows of `to_arrays`; other arrays are not looked at."""
    patches = Patches(*(arrays[f"patch_{name}"] for name in _OF_PATCHES))
    inputs = Inputs(*(arrays[name] for name in _OF_TOKENS), patches)
    return RewardInputs(inputs, arrays["at"])


class QwenVLReward(nn.Module):
    """The score of every dimension (VideoAlign 3.2): a head on the state of the dimension's token.

    The embeddings of these tokens are parameters of their own, `tokens`, so that they can be
    trained while the embedding of the model stands still.

    Attributes:
        config: sizes and switches of the model.
        dimensions: number of dimensions, d.
        outputs: of the head; d, of which every dimension has its own, or 1, which all share (the
            published checkpoint).
        own_tokens: whether every dimension has a token of its own, and is not read off one that
            stands there anyway.
        attention: implementation of `dot_product_attention`.
        remat: see `scan_blocks`.
        unroll: see `scan_blocks`.
        dtype: type of the computation; the head computes in float32.
    """

    config: QwenVLConfig
    dimensions: int
    outputs: int
    own_tokens: bool = True
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    def setup(self):
        if self.outputs not in (1, self.dimensions):
            raise ValueError(
                f"a head of {self.outputs} outputs does not fit {self.dimensions} dimensions: give "
                f"1, which all share, or {self.dimensions}"
            )
        width = self.config.text.hidden_size
        self.model = QwenVL(
            self.config,
            attention=self.attention,
            remat=self.remat,
            unroll=self.unroll,
            dtype=self.dtype,
        )
        if self.own_tokens:
            normal = nn.with_logical_partitioning(nn.initializers.normal(0.02), (None, "embed"))
            self.tokens = self.param("tokens", normal, (self.dimensions, width))
        self.head = dense(self.outputs, bias=False)

    def __call__(self, rows: RewardInputs) -> Float[Array, "b d"]:
        """Returns the scores, in float32."""
        inputs, model = rows.inputs, self.model
        x, deep = model.embedded(inputs, model.features(inputs.patches))
        at = rows.at[..., None]
        if self.own_tokens:
            number = jnp.arange(x.shape[0])[:, None]
            x = x.at[number, rows.at].set(self.tokens.astype(x.dtype)[None])
        states, _ = model.text(x, inputs.positions, inputs.mask, deep, None)
        scores = self.head(jnp.take_along_axis(states, at, axis=1).astype(jnp.float32))
        if self.outputs == 1:
            return scores[..., 0]
        return jnp.diagonal(scores, axis1=1, axis2=2)


def smallest_rows(config: QwenVLConfig, dimensions: int) -> RewardInputs:
    """Returns the smallest inputs with an image, for `init` of a network."""
    inputs = smallest(config)
    return RewardInputs(inputs, jnp.zeros((1, dimensions), jnp.int32))
