"""The transformer block of both towers of CLIP, and of the vision transformers that share it."""

from typing import Any

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from vidpref.models.attention import dot_product_attention
from vidpref.models.dense import dense
from vidpref.models.norm import layer_norm
from vidpref.models.scan import scan_blocks
from vidpref.typing import Array, Float

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


def check_activation(name: str) -> None:
    """Refuses an activation that no block has.

    Raises:
        ValueError: names those that are known.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act={name!r}: known are {', '.join(ACTIVATIONS)}")


class ClipBlock(nn.Module):
    """Self-attention and a perceptron, each after a layer norm and added to its input.

    Attributes:
        heads: heads of attention.
        hidden: hidden width of the perceptron.
        activation: of the perceptron, a name of `ACTIVATIONS`.
        epsilon: of the norms.
        dtype: type of the computation; norms and softmax are in float32.
        causal: whether a token sees only those up to itself.
        key_bias: whether keys have a bias, as queries and values do.
    """

    heads: int
    hidden: int
    activation: str
    epsilon: float
    dtype: DTypeLike
    causal: bool = False
    key_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b m e"]) -> tuple[Float[Array, "b m e"], None]:
        b, m, width = x.shape
        y = layer_norm(self.epsilon, affine=True, name="norm1")(x).astype(self.dtype)
        q, k, v = (
            dense(width, axes=("in", "heads"), bias=bias, dtype=self.dtype, name=name)(y).reshape(
                b, m, self.heads, -1
            )
            for name, bias in (("query", True), ("key", self.key_bias), ("value", True))
        )
        y = dot_product_attention(q, k, v, causal=self.causal).reshape(b, m, width)
        x = x + dense(width, axes=("heads", "out"), dtype=self.dtype, name="out")(y)
        y = layer_norm(self.epsilon, affine=True, name="norm2")(x).astype(self.dtype)
        y = ACTIVATIONS[self.activation](dense(self.hidden, dtype=self.dtype, name="mlp_in")(y))
        return x + dense(width, dtype=self.dtype, name="mlp_out")(y), None


def clip_blocks(length: int, **attributes: Any) -> nn.Module:
    """Returns `length` blocks, one after another in a scan: x -> (x, None).

    Args:
        length: how many.
        **attributes: of every block, as `ClipBlock` has them, and the `name` of all.
    """
    blocks = scan_blocks(ClipBlock, length=length, in_axes=(), remat="none", unroll=False)
    return blocks(**attributes)
