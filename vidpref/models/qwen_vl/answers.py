"""A Qwen-VL model that is trained to answer: logits of the last tokens of every row, and draws."""

import flax.linen as nn
from jax.typing import DTypeLike

from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.inputs import Inputs, Patches
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.text import Cache
from vidpref.typing import Array, Float, Int, PyTree


class QwenVLAnswers(nn.Module):
    """The logits that the last n tokens of rows were drawn by, each read off the token before it.

    Attributes:
        config: sizes and switches of the model.
        attention, remat, unroll, dtype: see `QwenVL`.
    """

    config: QwenVLConfig
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    def setup(self):
        self.model = QwenVL(
            self.config,
            attention=self.attention,
            remat=self.remat,
            unroll=self.unroll,
            dtype=self.dtype,
        )

    def __call__(self, inputs: Inputs, n: int) -> Float[Array, "b n v"]:
        """Returns logits, of prompts with their answers, padded on the left."""
        return self.logits(self.before(inputs, n))

    @property
    def vocabulary(self) -> int:
        """Number of the logits of a token."""
        return self.config.text.vocab_size

    def before(self, inputs: Inputs, n: int) -> Float[Array, "b n d"]:
        """Returns the states that the logits are read off."""
        length = inputs.tokens.shape[1]
        if not 0 < n < length:
            raise ValueError(f"rows of {length} tokens have no {n} tokens behind another")
        return self.states(inputs)[:, -n - 1 : -1]

    def states(self, inputs: Inputs) -> Float[Array, "b l d"]:
        """See `QwenVL`; so are the methods below."""
        return self.model.states(inputs)

    def logits(self, states: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        return self.model.logits(states)

    def features(self, patches: Patches | None) -> PyTree:
        return self.model.features(patches)

    def prompt(
        self, inputs: Inputs, features: PyTree, cache: Cache | None
    ) -> tuple[Float[Array, "b l d"], Cache | None]:
        return self.model.prompt(inputs, features, cache)

    def token(
        self,
        tokens: Int[Array, " b"],
        positions: Int[Array, " b"],
        cache: Cache,
        slot: Int[Array, ""],
    ) -> tuple[Float[Array, "b d"], Cache]:
        return self.model.token(tokens, positions, cache, slot)
