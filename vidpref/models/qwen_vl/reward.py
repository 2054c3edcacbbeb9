"""A Qwen-VL model that scores videos: states of some tokens through a linear head."""

from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.dense import dense
from vidpref.models.qwen_vl import inputs, packing
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import Room
from vidpref.typing import Array, Float, PyTree


@flax.struct.dataclass
class RewardInputs:
    """b rows that are scored in d dimensions.

    Attributes:
        inputs: tokens, and patches of the videos, as `Inputs`.
        at: place of the token that each dimension is read off [b, d].
    """

    # not typed as arrays: jax maps over this tree, so leaves are also shapes or shardings
    inputs: PyTree
    at: PyTree


def to_arrays(rows: RewardInputs) -> dict[str, PyTree]:
    """Returns the arrays, or shapes, of rows with videos by name, as batches of training hold."""
    return {"at": rows.at, **inputs.to_arrays(rows.inputs)}


def from_arrays(arrays: Mapping[str, PyTree]) -> RewardInputs:
    """Returns the rows of `to_arrays`; other arrays are not looked at."""
    return RewardInputs(inputs.from_arrays(arrays), arrays["at"])


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
    at = jax.ShapeDtypeStruct((dimensions,), jnp.int32)
    return {"at": at, **packing.shapes_of(config, room, dtype)}


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
        own, model = rows.inputs, self.model
        x, deep = model.embedded(own, model.features(own.patches))
        at = rows.at[..., None]
        if self.own_tokens:
            number = jnp.arange(x.shape[0])[:, None]
            x = x.at[number, rows.at].set(self.tokens.astype(x.dtype)[None])
        states, _ = model.text(x, own.positions, own.mask, deep, None)
        scores = self.head(jnp.take_along_axis(states, at, axis=1).astype(jnp.float32))
        if self.outputs == 1:
            return scores[..., 0]
        return jnp.diagonal(scores, axis1=1, axis2=2)


def smallest_rows(config: QwenVLConfig, dimensions: int) -> RewardInputs:
    """Returns the smallest inputs with an image, for `init` of a network."""
    return RewardInputs(packing.smallest(config), jnp.zeros((1, dimensions), jnp.int32))
