"""CogVideoX (Yang et al. 2024): a transformer over text and video tokens side by side."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.cogvideox.block import CogVideoXBlock, affine_norm
from vidpref.models.cogvideox.positions import rotary_positions, sincos_positions
from vidpref.models.condition import Condition
from vidpref.models.config_json import read_config
from vidpref.models.convolution import PatchEmbedding
from vidpref.models.dense import dense
from vidpref.models.embeddings import sinusoidal
from vidpref.models.inputs import check_inputs
from vidpref.models.scan import scan_blocks
from vidpref.models.spread import spread_batch, token_division
from vidpref.typing import Array, Float

STEPS = 1000  # of the diffusion process that every CogVideoX was trained with

# what the original can be configured to be and CogVideoX 1.0 never is
_FIXED = {
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "ofs_embed_dim": None,
    "dropout": 0.0,
    "patch_size_t": None,
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    "norm_elementwise_affine": True,
}


class CogVideoX(nn.Module):
    """The v-predicting transformer of CogVideoX 2B, 5B and 5B-I2V.

    A call takes latents [b, t, h, w, out_channels], tau = (n + 1) / 1000 for the original's step n,
    and the T5 states of the prompt. The original pads prompts to `max_text_seq_length` tokens and
    attends to the padding: `condition.text_mask` is not looked at, and the unconditional branch of
    guidance is the T5 states of the empty prompt. With more `in_channels` than `out_channels` the
    rest are `condition.image_latent`.

    Attributes:
        num_attention_heads, attention_head_dim: their product is the width of a token.
        in_channels, out_channels: channels of the latent, with and without the image's.
        time_embed_dim: width of the time embedding.
        text_embed_dim: width of the T5 states.
        num_layers: blocks.
        attention_bias: whether queries, keys and values have a bias.
        sample_width, sample_height, sample_frames: latent columns and rows, and frames of pixels,
            of the training clips; they place the rotary positions and size the learned ones.
        patch_size: latent rows and columns of a token.
        temporal_compression_ratio: frames of pixels for one of the latent.
        max_text_seq_length: text tokens, where positions are learned.
        norm_eps: epsilon of the layer norms.
        spatial_interpolation_scale, temporal_interpolation_scale: scales of the sincos positions.
        use_rotary_positional_embeddings: rotary positions instead of added sincos ones.
        use_learned_positional_embeddings: added learned ones beside the rotary ones. For another
            number of frames than `sample_frames` sincos ones stand in, as in diffusers.
        patch_bias: whether the patch embedding has a bias.
        attention: implementation of `dot_product_attention`.
        remat, unroll: see `scan_blocks`.
        dtype: type of the computation; parameters and output are float32.
    """

    num_attention_heads: int = 30
    attention_head_dim: int = 64
    in_channels: int = 16
    out_channels: int = 16
    time_embed_dim: int = 512
    text_embed_dim: int = 4096
    num_layers: int = 30
    attention_bias: bool = True
    sample_width: int = 90
    sample_height: int = 60
    sample_frames: int = 49
    patch_size: int = 2
    temporal_compression_ratio: int = 4
    max_text_seq_length: int = 226
    norm_eps: float = 1e-5
    spatial_interpolation_scale: float = 1.875
    temporal_interpolation_scale: float = 1.0
    use_rotary_positional_embeddings: bool = False
    use_learned_positional_embeddings: bool = False
    patch_bias: bool = True
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False
    dtype: DTypeLike = "float32"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "CogVideoX":
        """Returns the network of a `transformer/config.json` of diffusers.

        Args:
            config: config of a `CogVideoXTransformer3DModel`; that of CogVideoX 1.5 is another
                network.
            **options: fields that diffusers does not have, such as `remat` and `dtype`.

        Raises:
            ValueError: a field that asks for another computation.
        """
        return read_config(cls, config, fixed=_FIXED, **options)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t h w c"], tau: Float[Array, " b"], condition: Condition
    ) -> Float[Array, "b t h w c"]:
        self._check(x, condition)
        x, tau, condition = spread_batch((x, tau, condition))
        dtype, p = jnp.dtype(self.dtype), self.patch_size
        width = self.num_attention_heads * self.attention_head_dim
        b, t, h, w, _ = x.shape
        grid = (t, h // p, w // p)
        m = condition.text.shape[1]

        # the network knows whole steps only; rounding undoes that of tau
        step = jnp.round(tau.astype(jnp.float32) * STEPS) - 1.0
        embedding = dense(self.time_embed_dim, dtype=dtype, name="time_in")(sinusoidal(step, width))
        embedding = dense(self.time_embed_dim, dtype=dtype, name="time_out")(jax.nn.silu(embedding))
        embedding = jax.nn.silu(embedding)

        if condition.image_latent is not None:
            x = jnp.concatenate([x, condition.image_latent.astype(x.dtype)], axis=-1)
        video = PatchEmbedding(width, (p, p), self.patch_bias, dtype, name="patch")(x)
        text = dense(width, dtype=dtype, name="text")(condition.text)
        division = token_division(b, m + video.shape[1], self.num_attention_heads)
        tokens = division.split(jnp.concatenate([text, video], axis=1))
        rotary = None
        if self.use_rotary_positional_embeddings:
            trained = (self.sample_height // p, self.sample_width // p)
            cos, sin = rotary_positions(grid, self.attention_head_dim, trained=trained)
            text_rows = ((m, 0), (0, 0))  # by no angle
            cos, sin = jnp.pad(cos, text_rows, constant_values=1), jnp.pad(sin, text_rows)
            rotary = division.fill(cos), division.fill(sin)
        if not self.use_rotary_positional_embeddings or self.use_learned_positional_embeddings:
            positions = division.fill(self._added_positions(grid, m))
            tokens = tokens + positions.astype(dtype)[None]

        blocks = scan_blocks(
            CogVideoXBlock,
            length=self.num_layers,
            in_axes=(nn.broadcast, nn.broadcast),
            remat=self.remat,
            unroll=self.unroll,
        )(
            division=division,
            text_tokens=m,
            head_dim=self.attention_head_dim,
            qkv_bias=self.attention_bias,
            epsilon=self.norm_eps,
            attention=self.attention,
            dtype=dtype,
            name="blocks",
        )
        tokens, _ = blocks(tokens, embedding, rotary)

        tokens = affine_norm(self.norm_eps, dtype, "final_norm")(tokens)
        tokens = affine_norm(self.norm_eps, dtype, "out_norm")(tokens)
        modulation = dense(2 * width, dtype=dtype, name="out_modulation")(embedding)
        shift, scale = jnp.split(modulation[:, None], 2, axis=-1)
        out = dense(p * p * self.out_channels, dtype=dtype, name="head")(
            tokens * (1 + scale) + shift
        )[:, m : division.length]
        # a token's features are (channel, row, column), other than `channels_to_space` has them
        out = out.reshape(b, *grid, self.out_channels, p, p).transpose(0, 1, 2, 5, 3, 6, 4)
        return out.reshape(b, t, h, w, self.out_channels).astype(jnp.float32)

    @nn.nowrap
    def _added_positions(self, grid: tuple[int, int, int], m: int) -> Float[Array, "l d"]:
        width = self.num_attention_heads * self.attention_head_dim

        def sincos(frames: int) -> Array:
            positions = sincos_positions(
                (frames, *grid[1:]),
                width,
                spatial_scale=self.spatial_interpolation_scale,
                temporal_scale=self.temporal_interpolation_scale,
            )
            return jnp.pad(positions, ((m, 0), (0, 0)))[None]

        if not self.use_learned_positional_embeddings:
            return sincos(grid[0])[0]
        frames = (self.sample_frames - 1) // self.temporal_compression_ratio + 1
        init = nn.with_logical_partitioning(lambda key: sincos(frames), (None, None, "embed"))
        learned = self.param("positions", init)
        return (learned if grid[0] == frames else sincos(grid[0]))[0]

    @nn.nowrap
    def _check(self, x: Array, condition: Condition) -> None:
        check_inputs(
            x,
            condition,
            multiple=(1, self.patch_size, self.patch_size),
            text_dim=self.text_embed_dim,
            first_frame=False,
            low_res=False,
            residual="",
        )
        image = self.in_channels - self.out_channels
        given = condition.image_latent
        if x.shape[-1] != self.out_channels:
            raise ValueError(f"latents {x.shape} must have {self.out_channels} channels, the last")
        if (given is not None) != (image > 0):
            raise ValueError(
                f"condition.image_latent {'is missing' if image else 'is given'}, but the network "
                f"has in_channels={self.in_channels}, out_channels={self.out_channels}"
            )
        if given is not None and given.shape != (*x.shape[:-1], image):
            raise ValueError(
                f"condition.image_latent {given.shape} must be {(*x.shape[:-1], image)}"
            )
        if not self.use_learned_positional_embeddings:
            return
        if x.shape[2:4] != (self.sample_height, self.sample_width):
            raise ValueError(
                f"latents of {x.shape[2:4]} (h, w): the learned positions are those of "
                f"{(self.sample_height, self.sample_width)} only"
            )
        if condition.text.shape[1] != self.max_text_seq_length:
            raise ValueError(
                f"{condition.text.shape[1]} text tokens: the learned positions are those of "
                f"max_text_seq_length={self.max_text_seq_length}"
            )
