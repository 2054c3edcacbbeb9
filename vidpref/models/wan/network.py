"""Wan2.1's transformer: text to video, and image to video with its added attention."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.models.condition import Condition
from vidpref.models.config_json import read_config
from vidpref.models.convolution import PatchEmbedding, channels_to_space
from vidpref.models.dense import dense
from vidpref.models.embeddings import TimeEmbedding
from vidpref.models.norm import layer_norm
from vidpref.models.rope import rotary_tables
from vidpref.models.scan import scan_blocks
from vidpref.models.spread import spread_batch, token_division
from vidpref.models.wan.block import WanBlock
from vidpref.typing import Array, Float


class Wan(nn.Module):
    """The velocity of a noisy latent (Wan Team 2025, section 4.2); numbers equal diffusers'.

    The text is the states of UMT5. As in the original the network attends to all `l` of them, and
    those that the mask hides are zeros; so a row without text is `l` zeros. Time `tau` is the
    original's timestep / 1000. Norms, time and modulation are computed in float32 always.

    Attributes:
        patch_size: (t, h, w) of the latent that make a token.
        num_attention_heads: heads of `attention_head_dim` features, together the width.
        attention_head_dim: features of a head.
        in_channels: channels of the noisy latent, and for image to video of
            `condition.image_latent` too.
        out_channels: channels of the velocity; None for as many as come in.
        text_dim: width of the text states.
        freq_dim: width of the sinusoidal time.
        ffn_dim: hidden width of the perceptron.
        num_layers: blocks.
        cross_attn_norm: whether the norm before the attention to the text has parameters; there is
            none without.
        eps: epsilon of the norms in the blocks.
        image_dim: width of `condition.image_states`; None for text to video.
        added_kv_proj_dim: the width for image to video, else None.
        rope_max_seq_len: the longest axis of the token grid.
        attention: implementation of `dot_product_attention`.
        remat: see `scan_blocks`.
        unroll: see `scan_blocks`.
        dtype: type of the computation.
    """

    patch_size: tuple[int, int, int] = (1, 2, 2)
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int | None = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 13824
    num_layers: int = 40
    cross_attn_norm: bool = True
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    rope_max_seq_len: int = 1024
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "Wan":
        """Returns the module of a `WanTransformer3DModel`'s config.json.

        Args:
            config: the file's content.
            **options: `attention`, `remat`, `unroll`, `dtype`.

        Raises:
            ValueError: a field that asks for another computation.
        """
        fixed = {"qk_norm": "rms_norm_across_heads", "pos_embed_seq_len": None}
        return read_config(cls, config, fixed=fixed, **options)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], tau: Float[Array, " b"], condition: Condition
    ) -> Float[Array, "b t h w c2"]:
        """Returns the velocity.

        Raises:
            ValueError: an input that does not fit the fields.
        """
        self._check(x, condition)
        x, tau, condition = spread_batch((x, tau, condition))
        dtype = jnp.dtype(self.dtype)
        width = self.num_attention_heads * self.attention_head_dim
        if condition.image_latent is not None:
            x = jnp.concatenate([x, condition.image_latent.astype(x.dtype)], axis=-1)
        b, *sizes, _ = x.shape
        grid = [size // patch for size, patch in zip(sizes, self.patch_size, strict=True)]
        division = token_division(b, math.prod(grid), self.num_attention_heads)
        embed = PatchEmbedding(width, self.patch_size, dtype=dtype, name="patch_embedding")
        h = embed(x, division.split)

        time = TimeEmbedding(width, self.freq_dim, name="time")(tau).astype(dtype)
        modulation = dense(6 * width, dtype=dtype, name="time_projection")(jax.nn.silu(time))
        modulation = modulation.astype(jnp.float32).reshape(b, 6, width)
        text = jnp.where(condition.text_mask[..., None], condition.text, 0)
        text = jax.nn.gelu(dense(width, dtype=dtype, name="text_in")(text))
        text = dense(width, dtype=dtype, name="text_out")(text)
        image = None
        if self.image_dim is not None:
            image = ImageEmbedding(width, dtype, name="image")(condition.image_states)

        blocks = scan_blocks(
            WanBlock,
            length=self.num_layers,
            in_axes=(nn.broadcast,) * 4,
            remat=self.remat,
            unroll=self.unroll,
        )(
            division,
            self.num_attention_heads,
            self.ffn_dim,
            self.cross_attn_norm,
            self.eps,
            self.attention,
            dtype,
            name="blocks",
        )
        rotary = tuple(division.fill(table) for table in self._rotary(grid))
        h, _ = blocks(h, modulation, text, image, rotary)

        table = self.param(
            "scale_shift_table",
            nn.with_logical_partitioning(nn.initializers.normal(width**-0.5), (None, None, "out")),
            (1, 2, width),
        )
        shift, scale = jnp.split(table + time.astype(jnp.float32)[:, None], 2, axis=1)
        h = (layer_norm(self.eps)(h) * (1 + scale) + shift).astype(dtype)
        outputs = self.out_channels or self.in_channels
        h = dense(outputs * math.prod(self.patch_size), dtype=dtype, name="head")(h)
        h = h[:, : division.length].astype(jnp.float32).reshape(b, *grid, -1)
        return channels_to_space(h, self.patch_size)

    @nn.nowrap
    def _rotary(self, grid: list[int]) -> tuple[Array, Array]:
        """Features turn with time, height and width: a third each, time takes what is left."""
        third = 2 * (self.attention_head_dim // 6)
        dims = (self.attention_head_dim - 2 * third, third, third)
        return rotary_tables([np.arange(size, dtype=np.float64) for size in grid], dims)

    @nn.nowrap
    def _check(self, x: Array, condition: Condition) -> None:
        width = self.num_attention_heads * self.attention_head_dim
        with_image = self.image_dim is not None
        if (self.added_kv_proj_dim or 0) != (width if with_image else 0):
            raise ValueError(
                f"added_kv_proj_dim={self.added_kv_proj_dim} must be the width, {width}, "
                f"with image_dim and None without; image_dim={self.image_dim}"
            )
        grid = [size / patch for size, patch in zip(x.shape[1:4], self.patch_size, strict=True)]
        if any(size % 1 or size > self.rope_max_seq_len for size in grid):
            raise ValueError(
                f"a latent of {x.shape[1:4]} (t, h, w) must be a multiple of the patch "
                f"{self.patch_size}, and no longer than {self.rope_max_seq_len} patches"
            )
        latent = condition.image_latent
        channels = x.shape[-1] + (0 if latent is None else latent.shape[-1])
        if channels != self.in_channels:
            raise ValueError(
                f"the network takes {self.in_channels} channels; the latent has {x.shape[-1]} and "
                f"condition.image_latent {channels - x.shape[-1]}"
            )
        if latent is not None and latent.shape[:-1] != x.shape[:-1]:
            raise ValueError(
                f"condition.image_latent {latent.shape} is on another grid than the latent "
                f"{x.shape}"
            )
        if condition.text.shape[-1] != self.text_dim:
            raise ValueError(
                f"the text embedding has width {condition.text.shape[-1]}, "
                f"the network was built for {self.text_dim}"
            )
        states = condition.image_states
        if (None if states is None else states.shape[-1]) != self.image_dim:
            raise ValueError(
                f"condition.image_states {'is missing' if states is None else states.shape}, "
                f"the network was built for width {self.image_dim}"
            )


class ImageEmbedding(nn.Module):
    """A perceptron between two norms for the states of the image encoder.

    Attributes:
        features: features of a token.
        dtype: type of the computation.
    """

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, states: Float[Array, "b m e"]) -> Float[Array, "b m d"]:
        width = states.shape[-1]
        states = layer_norm(1e-5, affine=True, name="norm_in")(states).astype(self.dtype)
        states = dense(width, dtype=self.dtype, name="first")(states)
        states = jax.nn.gelu(states, approximate=False)
        states = dense(self.features, dtype=self.dtype, name="second")(states)
        return layer_norm(1e-5, affine=True, name="norm_out")(states).astype(self.dtype)
