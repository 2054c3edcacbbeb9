"""The text transformer of CLIP, whose end token stands for the text."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.clip.block import check_activation, clip_blocks
from vidpref.models.config_json import read_config
from vidpref.models.norm import layer_norm
from vidpref.typing import Array, Float, Int

_FIXED = {"model_type": "clip_text_model", "attention_dropout": 0.0, "quantization_config": None}
# Files of before PR 24773 of transformers say 2 whatever the vocabulary is; the end token is the
# largest number of a text then, as it is in CLIP's vocabulary.
_UNTOLD = 2


class ClipText(nn.Module):
    """The state of a text's end token (Radford et al. 2021, section 2.4).

    Attention is causal, so what stands behind the end token does not matter.

    Attributes:
        vocab_size: number of tokens.
        hidden_size: width of a state.
        intermediate_size: hidden width of the perceptron.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads of a block.
        max_position_embeddings: tokens of a text at most.
        hidden_act: activation of the perceptron, "gelu" or "quick_gelu".
        layer_norm_eps: epsilon of the norms.
        eos_token_id: the end token; 2 for the largest of each text.
        dtype: type of the computation; norms and softmax are in float32.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407
    dtype: DTypeLike = "float32"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "ClipText":
        """Returns the module of a `CLIPTextModel`'s config.

        Args:
            config: its fields.
            **options: `dtype`.

        Raises:
            ValueError: a field that asks for another computation.
        """
        known = {*cls.__dataclass_fields__, *_FIXED} - {"dtype"}  # there it is that of the file
        meant = {name: value for name, value in config.items() if name in known}
        module = read_config(cls, meant, fixed=_FIXED, **options)
        check_activation(module.hidden_act)
        return module

    @nn.compact
    def __call__(self, tokens: Int[Array, "b l"]) -> Float[Array, "b e"]:
        """Returns the state of each text's first end token, after the last norm.

        Args:
            tokens: each text with its end token; at most `max_position_embeddings` of them.

        Raises:
            ValueError: texts that are too long.
        """
        length = tokens.shape[1]
        if length > self.max_position_embeddings:
            raise ValueError(f"{length} tokens, and CLIP has {self.max_position_embeddings} places")
        dtype = jnp.dtype(self.dtype)
        normal = nn.initializers.normal(0.02)
        x = nn.Embed(
            self.vocab_size,
            self.hidden_size,
            dtype=dtype,
            embedding_init=nn.with_logical_partitioning(normal, ("vocab", "embed")),
            name="embed",
        )(tokens)
        positions = self.param(
            "positions",
            nn.with_logical_partitioning(normal, (None, "embed")),
            (self.max_position_embeddings, self.hidden_size),
        )
        x = x + positions[None, :length].astype(dtype)
        x, _ = clip_blocks(
            self.num_hidden_layers,
            heads=self.num_attention_heads,
            hidden=self.intermediate_size,
            activation=self.hidden_act,
            epsilon=self.layer_norm_eps,
            dtype=dtype,
            causal=True,
            name="blocks",
        )(x)
        untold = self.eos_token_id == _UNTOLD
        ends = (tokens if untold else (tokens == self.eos_token_id).astype(jnp.int32)).argmax(1)
        x = jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
        return layer_norm(self.layer_norm_eps, affine=True, name="norm_out")(x).astype(dtype)
