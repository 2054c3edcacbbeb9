"""A Qwen-VL model that scores images: the state of one token through dense layers (HPSv3)."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.dense import dense
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.inputs import Inputs
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.typing import Array, Float, Int


class QwenVLImageReward(nn.Module):
    """What HPSv3 says of an image and its prompt (Ma et al. 2025, arXiv 2508.03789): a score as a
    normal distribution, of which the mean counts where images are compared.

    Attributes:
        config: sizes and switches of the model.
        widths: of the dense layers of the head, with ReLU between; the last has the outputs.
        attention: implementation of `dot_product_attention`.
        dtype: type of the computation; the head computes in float32.
    """

    config: QwenVLConfig
    widths: tuple[int, ...] = (1024, 16, 2)
    attention: str = "xla"
    dtype: DTypeLike = "float32"

    def setup(self):
        self.model = QwenVL(self.config, attention=self.attention, dtype=self.dtype)
        self.head = [dense(width) for width in self.widths]

    def __call__(self, inputs: Inputs, at: Int[Array, " b"]) -> Float[Array, "b k"]:
        """Returns the outputs of the head in float32.

        Args:
            inputs: rows of an image and a text.
            at: place of the token that is read in each.
        """
        states = self.model.states(inputs)
        x = jnp.take_along_axis(states, at[:, None, None], axis=1)[:, 0].astype(jnp.float32)
        for layer in self.head[:-1]:
            x = nn.relu(layer(x))
        return self.head[-1](x)
