"""The vision transformer of DINO (Caron et al. 2021), for images of any size."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.clip.block import check_activation, clip_blocks
from vidpref.models.config_json import read_config
from vidpref.models.convolution import PatchEmbedding
from vidpref.models.interpolation import weights
from vidpref.models.norm import layer_norm
from vidpref.typing import Array, Float

_FIXED = {"num_channels": 3, "qkv_bias": True, "model_type": "vit"}
_MORE = 0.1  # of a patch: DINO adds it to the number of patches that it resizes positions to


class Vit(nn.Module):
    """A transformer of patches and a token for the whole image.

    Attributes:
        hidden_size: width e of a state.
        intermediate_size: hidden width of the perceptron.
        num_hidden_layers: blocks.
        num_attention_heads: heads of a block.
        image_size: pixels of a side of the images that it was trained on, which were square.
        patch_size: pixels of a patch's side; one patch is one token.
        hidden_act: activation of the perceptron, see `check_activation`.
        layer_norm_eps: epsilon of the norms.
        dtype: type of the computation; norms and softmax are in float32.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 16
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    dtype: DTypeLike = "float32"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "Vit":
        """Returns the module of a `ViTModel`'s config.json.

        Args:
            config: the file's content.
            **options: `dtype`.

        Raises:
            ValueError: a model of another family, or a field that asks for another computation.
        """
        known = {*cls.__dataclass_fields__, *_FIXED} - {"dtype"}
        meant = {name: value for name, value in config.items() if name in known}
        module = read_config(cls, {"model_type": None, **meant}, fixed=_FIXED, **options)
        check_activation(module.hidden_act)
        return module

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b e"]:
        """Returns the state of the whole image behind the last norm, in float32.

        Images of another size than `image_size` have positions that are resized as DINO resizes
        them; what a patch does not fill at the right and at the bottom is not seen.

        Args:
            images: normalised by ImageNet's colours.

        Raises:
            ValueError: images smaller than a patch.
        """
        b, h, w, _ = images.shape
        dtype, patch, width = jnp.dtype(self.dtype), self.patch_size, self.hidden_size
        rows, columns = h // patch, w // patch
        if not rows or not columns:
            raise ValueError(f"images of {h}x{w} are smaller than a patch of {patch}x{patch}")
        seen = images[:, None, : rows * patch, : columns * patch]
        x = PatchEmbedding(width, (patch, patch), dtype=dtype, name="patches")(seen)
        side = self.image_size // patch
        normal = nn.initializers.normal(0.02)
        axes = nn.with_logical_partitioning(normal, (None, None, "embed"))
        whole = self.param("whole", axes, (1, 1, width))
        positions = self.param("positions", axes, (1, 1 + side**2, width))
        of_patches = positions[0, 1:]
        if (rows, columns) != (side, side) or h != w:
            of_patches = jnp.einsum(
                "yh,xw,hwe->yxe",
                weights(side, rows, "cubic", (rows + _MORE) / side),
                weights(side, columns, "cubic", (columns + _MORE) / side),
                of_patches.reshape(side, side, width),
            ).reshape(-1, width)
        whole = jnp.broadcast_to(whole.astype(dtype), (b, 1, width))
        x = jnp.concatenate([whole, x], axis=1)
        x = x + jnp.concatenate([positions[:, :1], of_patches[None]], axis=1).astype(dtype)
        x, _ = clip_blocks(
            self.num_hidden_layers,
            heads=self.num_attention_heads,
            hidden=self.intermediate_size,
            activation=self.hidden_act,
            epsilon=self.layer_norm_eps,
            dtype=dtype,
            name="blocks",
        )(x)
        return layer_norm(self.layer_norm_eps, affine=True, name="norm_out")(x[:, 0])
