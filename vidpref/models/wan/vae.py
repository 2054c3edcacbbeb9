"""Wan2.1's causal video autoencoder."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vidpref.models.config_json import read_config
from vidpref.models.tiling import Cut, apply_by_tiles
from vidpref.models.wan.vae_block import CausalConv, Memory
from vidpref.models.wan.vae_networks import WanDecoder, WanEncoder, by_chunks
from vidpref.typing import Array, Float

# of the published weights, a channel; diffusers' AutoencoderKLWan has them as defaults
LATENTS_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
LATENTS_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)

# what the original can be configured to and Wan2.1 is not
_FIXED = {"attn_scales": (), "dropout": 0.0, "is_residual": False, "patch_size": None}
_IGNORED = ("scale_factor_temporal", "scale_factor_spatial")  # follow from the network


class WanVAE(nn.Module):
    """Clips to latents and back (Wan Team 2025, section 4.1); numbers equal diffusers'.

    The first frame becomes the first step of the latent, every `time_ratio` frames after it one
    more. The networks see one step at a time and remember two frames a convolution, so that memory
    hardly grows with the clip; the result is that of the whole clip at once.

    Attributes:
        base_dim: channels of the encoder at full size.
        decoder_base_dim: channels of the decoder at full size; None for those of the encoder.
        z_dim: channels of the latent.
        dim_mult: channels of each level over the base; height and width halve between levels.
        num_res_blocks: blocks of a level of the encoder; the decoder has one more.
        temperal_downsample: whether time halves too, after each level but the last.
        latents_mean: mean of each channel of the latent.
        latents_std: standard deviation of each channel of the latent.
        in_channels: channels of a clip that is encoded.
        out_channels: channels of a decoded clip.
        attention: implementation of `dot_product_attention`.
        tiled: encode and decode frames larger than a tile by tiles, as diffusers'
            `enable_tiling()`.
        tile_size: (h, w) of a tile in pixels; multiples of `space_ratio`.
        tile_stride: (h, w) from a tile to the next in pixels; they fade over the rest.
        dtype: type of the computation.
    """

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    latents_mean: tuple[float, ...] = LATENTS_MEAN
    latents_std: tuple[float, ...] = LATENTS_STD
    in_channels: int = 3
    out_channels: int = 3
    attention: str = "xla"
    tiled: bool = False
    tile_size: tuple[int, int] = (256, 256)
    tile_stride: tuple[int, int] = (192, 192)
    dtype: DTypeLike = "float32"

    image_steps: ClassVar[int | None] = None  # of `image_latent` that are not zero; None: all

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "WanVAE":
        """Returns the module of an `AutoencoderKLWan`'s config.json; Wan2.2 has another network.

        Args:
            config: the file's content.
            **options: fields that diffusers does not have, such as `attention` and `tiled`.

        Raises:
            ValueError: a field that asks for another computation.
        """
        return read_config(cls, config, fixed=_FIXED, ignored=_IGNORED, **options)

    def setup(self):
        if not len(self.latents_mean) == len(self.latents_std) == self.z_dim:
            raise ValueError(
                f"latents_mean and latents_std must have z_dim={self.z_dim} numbers, they have "
                f"{len(self.latents_mean)} and {len(self.latents_std)}"
            )
        if len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise ValueError(
                f"temperal_downsample={self.temperal_downsample} must have one entry fewer than "
                f"dim_mult={self.dim_mult}"
            )
        for size, stride in zip(self.tile_size, self.tile_stride, strict=True):
            if size % self.space_ratio or stride % self.space_ratio or not 0 < stride <= size:
                raise ValueError(
                    f"tile_size={self.tile_size} and tile_stride={self.tile_stride} must be "
                    f"multiples of {self.space_ratio}, a stride no larger than its tile"
                )
        dtype = jnp.dtype(self.dtype)
        options = {"attention": self.attention, "dtype": dtype}
        self.encoder = WanEncoder(
            stem=self.base_dim,
            features=tuple(self.base_dim * m for m in self.dim_mult),
            blocks=self.num_res_blocks,
            time=self.temperal_downsample,
            outputs=2 * self.z_dim,
            **options,
        )
        self.quant = CausalConv(2 * self.z_dim, (1, 1, 1), dtype=dtype)
        self.post_quant = CausalConv(self.z_dim, (1, 1, 1), dtype=dtype)
        decoder_dim = self.decoder_base_dim or self.base_dim
        self.decoder = WanDecoder(
            stem=decoder_dim * self.dim_mult[-1],
            features=tuple(decoder_dim * m for m in reversed(self.dim_mult)),
            blocks=self.num_res_blocks + 1,
            time=self.temperal_downsample[::-1],
            outputs=self.out_channels,
            **options,
        )

    @property
    def time_ratio(self) -> int:
        """Frames of a step of the latent, besides its first."""
        return 2 ** sum(self.temperal_downsample)

    @property
    def space_ratio(self) -> int:
        """Pixels of a position of the latent, in height and in width."""
        return 2 ** len(self.temperal_downsample)

    def __call__(self, clips: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c2"]:
        """Encodes and decodes clips in [-1, 1]; one frame is enough to initialise."""
        return self.decode(self.encode(clips))

    def encode(self, clips: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 z"]:
        """Returns the mean of the latent, normalised a channel to mean 0 and deviation 1.

        Args:
            clips: clips in [-1, 1]; 1 + n `time_ratio` frames, height and width multiples of
                `space_ratio`.

        Raises:
            ValueError: a clip of another size.
        """
        mean, _ = jnp.split(self.moments(clips), 2, axis=-1)
        return (mean - self._per_channel(self.latents_mean)) / self._per_channel(self.latents_std)

    def image_latent(
        self, image: Float[Array, "b h w c"], frames: int
    ) -> Float[Array, "b {frames} h2 w2 z2"]:
        """Returns `condition.image_latent` of image to video.

        On the channels are `time_ratio` numbers that say which frames of a step are given, and the
        latent of the clip of given frames and zeros elsewhere.

        Args:
            image: the first frame in [-1, 1].
            frames: steps of the latent.

        Raises:
            ValueError: an image of a size that cannot be encoded.
        """
        later = (frames - 1) * self.time_ratio
        clip = jnp.pad(image[:, None], ((0, 0), (0, later), (0, 0), (0, 0), (0, 0)))
        latents = self.encode(clip)
        given = jnp.zeros((*latents.shape[:-1], self.time_ratio)).at[:, 0].set(1.0)
        return jnp.concatenate([given, latents], axis=-1)

    def moments(self, clips: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 z2"]:
        """Returns mean and log variance of the latent on the channels, not normalised.

        Args:
            clips: see `encode`.

        Raises:
            ValueError: a clip of another size.
        """
        _, t, h, w, c = clips.shape
        if (t - 1) % self.time_ratio or h % self.space_ratio or w % self.space_ratio:
            raise ValueError(
                f"a clip of {(t, h, w)} (t, h, w) cannot be encoded: there must be "
                f"1 + n * {self.time_ratio} frames, and h and w multiples of {self.space_ratio}"
            )
        if c != self.in_channels:
            raise ValueError(f"the encoder takes {self.in_channels} channels, the clip has {c}")
        ratio = self.space_ratio
        cuts = (
            Cut(size, stride, (size - stride) // ratio, stride // ratio)
            for size, stride in zip(self.tile_size, self.tile_stride, strict=True)
        )
        if self.tiled:
            return apply_by_tiles(self, WanVAE._encode, clips, *cuts)
        return self._encode(clips)

    def decode(self, latents: Float[Array, "b t h w z"]) -> Float[Array, "b t2 h2 w2 c"]:
        """Returns clips in [-1, 1].

        Args:
            latents: latents as `encode` gives them.
        """
        x = latents.astype(jnp.float32)
        x = x * self._per_channel(self.latents_std) + self._per_channel(self.latents_mean)
        ratio = self.space_ratio
        cuts = (
            Cut(size // ratio, stride // ratio, size - stride, stride)
            for size, stride in zip(self.tile_size, self.tile_stride, strict=True)
        )
        clips = apply_by_tiles(self, WanVAE._decode, x, *cuts) if self.tiled else self._decode(x)
        return jnp.clip(clips, -1.0, 1.0)

    def _encode(self, clips: Array) -> Array:
        return self.quant(by_chunks(self.encoder, clips, self.time_ratio), Memory())

    def _decode(self, latents: Array) -> Array:
        x = self.post_quant(latents, Memory())
        return by_chunks(self.decoder, x, 1).astype(jnp.float32)

    @nn.nowrap
    def _per_channel(self, values: tuple[float, ...]) -> np.ndarray:
        return np.asarray(values, np.float32)[None, None, None, None]
