"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL as one network."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.dense import dense
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.inputs import Inputs, Patches
from vidpref.models.qwen_vl.text import Cache, Decoder
from vidpref.models.qwen_vl.vision import VisionTower
from vidpref.typing import Array, Float, Int, PyTree


class QwenVL(nn.Module):
    """A decoder of text whose tokens may be features of images and videos (Wang et al. 2024).

    Numbers equal those of transformers. Loss and head are for the caller to choose: `states` are
    what a reward model reads, and `logits` may be asked of some of them only.

    Attributes:
        config: sizes and switches.
        attention: implementation of `dot_product_attention`, of decoder and vision tower.
        remat: see `scan_blocks`.
        unroll: see `scan_blocks`.
        dtype: type of the computation.
    """

    config: QwenVLConfig
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "QwenVL":
        """Returns the module of a config.json.

        Args:
            config: the file's content.
            **options: `attention`, `remat`, `unroll`, `dtype`.

        Raises:
            ValueError: see `QwenVLConfig.read`.
        """
        return cls(QwenVLConfig.read(config), **options)

    def setup(self):
        text = self.config.text
        options = {
            "attention": self.attention,
            "remat": self.remat,
            "unroll": self.unroll,
            "dtype": self.dtype,
        }
        normal = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("vocab", "embed"))
        self.embed = nn.Embed(
            text.vocab_size, text.hidden_size, dtype=self.dtype, embedding_init=normal
        )
        self.vision = VisionTower(self.config.vision, **options)
        self.text = Decoder(text, **options)
        if not text.tie_word_embeddings:
            self.head = dense(text.vocab_size, axes=("in", "vocab"), bias=False, dtype=self.dtype)

    def __call__(self, inputs: Inputs) -> Float[Array, "b l v"]:
        """Returns the logits of the token after every token."""
        if self.is_initializing() and inputs.patches is None:
            raise ValueError("give patches to `init`, or the vision tower has no parameters")
        return self.logits(self.states(inputs))

    def states(self, inputs: Inputs) -> Float[Array, "b l d"]:
        """Returns the states after the decoder's last norm."""
        return self.prompt(inputs, self.features(inputs.patches), None)[0]

    def features(self, patches: Patches | None) -> PyTree:
        """Returns what `prompt` takes of images and videos; None for None."""
        return None if patches is None else self.vision(patches)

    def prompt(
        self, inputs: Inputs, features: PyTree, cache: Cache | None
    ) -> tuple[Float[Array, "b l d"], Cache | None]:
        """Returns the states of a prompt, and the cache with its keys and values in the first l.

        Args:
            inputs: tokens; its patches are not looked at.
            features: result of `features`.
            cache: keys and values to be filled, or None.
        """
        x, deep = self.embedded(inputs, features)
        return self.text(x, inputs.positions, inputs.mask, deep, cache)

    def embedded(
        self, inputs: Inputs, features: PyTree
    ) -> tuple[Float[Array, "b l d"], Float[Array, "k b l d"] | None]:
        """Returns what the decoder reads of tokens and features, and what goes in after its blocks.

        Args:
            inputs: tokens; its patches are not looked at.
            features: result of `features`.
        """
        x = self.embed(inputs.tokens)
        deep = None
        if features is not None:
            merged, stack = features
            here = inputs.features[..., None]
            index = jnp.maximum(here, 0)
            x = jnp.where(here >= 0, jnp.take_along_axis(merged, index, axis=1), x)
            if stack:
                placed = [jnp.take_along_axis(part, index, axis=1) for part in stack]
                deep = jnp.where(here[None] >= 0, jnp.stack(placed), 0)
        return x, deep

    def token(
        self,
        tokens: Int[Array, " b"],
        positions: Int[Array, " b"],
        cache: Cache,
        slot: Int[Array, ""],
    ) -> tuple[Float[Array, "b d"], Cache]:
        """Returns the states of one more token of text a row, and the cache with it.

        Args:
            tokens: the tokens.
            positions: their positions, the same on all axes.
            cache: keys and values; its mask counts these tokens as there.
            slot: place of these tokens in the cache.
        """
        x = self.embed(tokens[:, None])
        at = jnp.broadcast_to(positions[:, None, None], (*x.shape[:2], 3))
        mask = jnp.ones(x.shape[:2], bool)
        states, cache = self.text(x, at, mask, None, cache, slot)
        return states[:, 0], cache

    def logits(self, states: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Returns the logits of states."""
        if self.config.text.tie_word_embeddings:
            return self.embed.attend(states)
        return self.head(states)
