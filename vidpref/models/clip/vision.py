"""The vision transformer of CLIP: the states of an image and of its patches."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.clip.block import check_activation, clip_blocks
from vidpref.models.config_json import read_config
from vidpref.models.norm import layer_norm
from vidpref.typing import Array, Float

_FIXED = {
    "model_type": "clip_vision_model",
    "num_channels": 3,
    "attention_dropout": 0.0,
    "quantization_config": None,
}


class ClipVision(nn.Module):
    """The states of an image (Radford et al. 2021, section 2.4).

    Those before the last block, which Wan's image to video attends to, are `hidden_states[-2]` of
    transformers' `CLIPVisionModel`: what does not matter to them has no parameters here. The norm
    of the image's own state is `Clip`'s.

    Attributes:
        hidden_size: width of a state.
        intermediate_size: hidden width of the perceptron.
        num_hidden_layers: blocks of the original.
        num_attention_heads: heads of a block.
        image_size: pixels of the square image, (h, w) being the same.
        patch_size: pixels of a patch's side; one patch is one token.
        hidden_act: activation of the perceptron, "gelu" or "quick_gelu".
        layer_norm_eps: epsilon of the norms.
        left_out: the last blocks of the original that are not here.
        dtype: type of the computation; norms and softmax are in float32.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    left_out: int = 1
    dtype: DTypeLike = "float32"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "ClipVision":
        """Returns the module of a `CLIPVisionModel`'s config.json.

        Args:
            config: the file's content.
            **options: `left_out`, `dtype`.

        Raises:
            ValueError: a field that asks for another computation.
        """
        # there the type is that of the file
        known = {*cls.__dataclass_fields__, *_FIXED} - {"left_out", "dtype"}
        meant = {name: value for name, value in config.items() if name in known}
        module = read_config(cls, meant, fixed=_FIXED, **options)
        check_activation(module.hidden_act)
        return module

    @property
    def states_shape(self) -> tuple[int, int]:
        """(m, e): one state for the image and one a patch, and their width."""
        return 1 + (self.image_size // self.patch_size) ** 2, self.hidden_size

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b m e"]:
        """Returns the states.

        Args:
            images: normalised as CLIP's image processor does.

        Raises:
            ValueError: images of another size.
        """
        size = self.image_size
        if images.shape[1:] != (size, size, 3):
            raise ValueError(f"images {images.shape} must be (b, {size}, {size}, 3)")
        dtype, patch = jnp.dtype(self.dtype), self.patch_size
        x = nn.Conv(
            self.hidden_size,
            (patch, patch),
            strides=(patch, patch),
            padding="VALID",
            use_bias=False,
            dtype=dtype,
            kernel_init=nn.with_logical_partitioning(
                nn.initializers.lecun_normal(), ("kernel", "kernel", "in", "out")
            ),
            name="patches",
        )(images)
        x = x.reshape(len(x), -1, self.hidden_size)
        normal = nn.initializers.normal(0.02)
        whole = self.param(
            "whole", nn.with_logical_partitioning(normal, ("embed",)), (self.hidden_size,)
        )
        positions = self.param(
            "positions", nn.with_logical_partitioning(normal, (None, "embed")), self.states_shape
        )
        whole = jnp.broadcast_to(whole[None, None].astype(dtype), (len(x), 1, self.hidden_size))
        x = jnp.concatenate([whole, x], axis=1) + positions[None].astype(dtype)
        x = layer_norm(self.layer_norm_eps, affine=True, name="norm_in")(x).astype(dtype)
        x, _ = clip_blocks(
            self.num_hidden_layers - self.left_out,
            heads=self.num_attention_heads,
            hidden=self.intermediate_size,
            activation=self.hidden_act,
            epsilon=self.layer_norm_eps,
            dtype=dtype,
            name="blocks",
        )(x)
        return x
