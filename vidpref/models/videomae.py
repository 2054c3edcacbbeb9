"""VideoMAE's encoder (Tong et al. 2022): what a clip looks like, as one vector."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.models.clip.block import check_activation, clip_blocks
from vidpref.models.config_json import read_config
from vidpref.models.convolution import PatchEmbedding
from vidpref.models.norm import layer_norm
from vidpref.typing import Array, Float

_FIXED = {"num_channels": 3, "qv_bias": True, "qkv_bias": True, "model_type": "videomae"}
NORMS = ("none", "tokens", "mean")
_EPSILON = 1e-5  # of the norm of the mean, whatever `layer_norm_eps` says


class VideoMae(nn.Module):
    """A vision transformer of tubes of pixels that sees every token, and the mean of its states.

    The mean is what `VideoMAEForVideoClassification` classifies, before its last layer.

    Attributes:
        hidden_size: width e of a state.
        intermediate_size: hidden width of the perceptron.
        num_hidden_layers: blocks.
        num_attention_heads: heads of a block.
        image_size: pixels of the square frames, (h, w) being the same.
        patch_size: pixels of a tube's side.
        num_frames: frames of a clip.
        tubelet_size: frames of a tube; one tube is one token.
        hidden_act: activation of the perceptron, see `check_activation`.
        layer_norm_eps: epsilon of the norms.
        norm: the last norm: of the "mean" (a classifier's fc_norm), of the "tokens" before they
            are averaged (where `use_mean_pooling` is false), or "none" (an encoder alone).
        dtype: type of the computation; norms and softmax are in float32.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 16
    num_frames: int = 16
    tubelet_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    norm: str = "none"
    dtype: DTypeLike = "float32"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "VideoMae":
        """Returns the module of a VideoMAE model's config.json.

        Args:
            config: the file's content.
            **options: `norm`, `dtype`.

        Raises:
            ValueError: a model of another family, or a field that asks for another computation.
        """
        known = {*cls.__dataclass_fields__, *_FIXED} - {"norm", "dtype"}
        meant = {name: value for name, value in config.items() if name in known}
        module = read_config(cls, {"model_type": None, **meant}, fixed=_FIXED, **options)
        check_activation(module.hidden_act)
        return module

    @nn.compact
    def __call__(self, clips: Float[Array, "b t h w 3"]) -> Float[Array, "b e"]:
        """Returns the mean of the states of each clip, in float32.

        Args:
            clips: normalised as VideoMAE's image processor does.

        Raises:
            ValueError: clips of another shape, or an unknown `norm`.
        """
        shape = (self.num_frames, self.image_size, self.image_size, 3)
        if clips.shape[1:] != shape:
            raise ValueError(f"clips {clips.shape} must be (b, {', '.join(map(str, shape))})")
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r}: known are {', '.join(NORMS)}")
        dtype = jnp.dtype(self.dtype)
        patch = (self.tubelet_size, self.patch_size, self.patch_size)
        x = PatchEmbedding(self.hidden_size, patch, dtype=dtype, name="patches")(clips)
        x = x + sinusoidal_positions(x.shape[1], self.hidden_size).astype(dtype)[None]
        x, _ = clip_blocks(
            self.num_hidden_layers,
            heads=self.num_attention_heads,
            hidden=self.intermediate_size,
            activation=self.hidden_act,
            epsilon=self.layer_norm_eps,
            dtype=dtype,
            key_bias=False,
            name="blocks",
        )(x)
        x = x.astype(jnp.float32)
        if self.norm == "tokens":
            x = layer_norm(self.layer_norm_eps, affine=True, name="norm_out")(x)
        x = x.mean(axis=1)
        if self.norm == "mean":
            x = layer_norm(_EPSILON, affine=True, name="norm_out")(x)
        return x


def sinusoidal_positions(count: int, width: int) -> Float[np.ndarray, "l e"]:
    """Returns the table of Vaswani et al. 2017: sines at even places, cosines at odd ones."""
    places = np.arange(width)
    angles = np.arange(count)[:, None] / 10000.0 ** (2 * (places // 2) / width)[None]
    return np.where(places % 2, np.cos(angles), np.sin(angles)).astype(np.float32)
