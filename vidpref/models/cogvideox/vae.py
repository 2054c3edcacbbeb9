"""The causal video VAE of CogVideoX (Yang et al. 2024, section 2.1)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vidpref.models.cogvideox.vae_layers import TIME_LEVELS, Decoder, Encoder
from vidpref.models.config_json import read_config
from vidpref.models.tiling import Cut, apply_by_tiles
from vidpref.typing import Array, Float, Key

# Norms see one batch of frames at a time, so these numbers belong to the trained network.
FRAMES_AT_ONCE = 8
LATENTS_AT_ONCE = 2


class CogVideoXVAE(nn.Module):
    """Clips [b, t, h, w, c] to latents [b, t / 4, h / 8, w / 8, z] and back.

    Long clips go through in batches of 8 frames (2 latents), as in the original; a remainder is in
    the first batch. A clip has 1, 8 n or 8 n + 1 frames, its latent 1, 2 n or 2 n + 1.

    Attributes:
        in_channels, out_channels: channels of a clip.
        block_out_channels: channels of each level, the finest first; every further one halves rows
            and columns.
        latent_channels: channels of a latent.
        layers_per_block: residual blocks of an encoder's level; the decoder has one more.
        norm_eps: epsilon of the group norms in the encoder's residual blocks.
        norm_num_groups: groups of the group norms.
        scaling_factor: latents are multiplied by it.
        invert_scale_latents: an image's latents are divided by it, as the network was trained.
        sample_height, sample_width: size of the frames it was trained on; tiles are half of them.
        tiled: encode and decode frames larger than a tile by tiles, as diffusers'
            `enable_tiling()`.
        tile_size: (h, w) of a tile in pixels; None for half of the sample's.
        tile_overlap: (h, w) the part of a tile that overlaps the next; they fade over it.
        dtype: type of the computation; parameters and results are float32.
    """

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 256, 512)
    latent_channels: int = 16
    layers_per_block: int = 3
    norm_eps: float = 1e-6
    norm_num_groups: int = 32
    scaling_factor: float = 1.15258426
    invert_scale_latents: bool = False
    sample_height: int = 480
    sample_width: int = 720
    tiled: bool = False
    tile_size: tuple[int, int] | None = None
    tile_overlap: tuple[float, float] = (1 / 6, 1 / 5)
    dtype: DTypeLike = "float32"

    image_steps: ClassVar[int | None] = 1  # of `image_latent` that are not zero; None: all

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "CogVideoXVAE":
        """Returns the autoencoder of a `vae/config.json` of diffusers.

        Args:
            config: config of an `AutoencoderKLCogVideoX`.
            **options: fields that diffusers does not have, such as `dtype`.

        Raises:
            ValueError: a field that asks for another computation.
        """
        channels = config.get("block_out_channels", cls.block_out_channels)
        levels = len(channels) if isinstance(channels, list | tuple) else 0
        fixed = {
            "act_fn": "silu",
            "temporal_compression_ratio": 4,
            "shift_factor": None,
            "latents_mean": None,
            "latents_std": None,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "down_block_types": ("CogVideoXDownBlock3D",) * levels,
            "up_block_types": ("CogVideoXUpBlock3D",) * levels,
        }
        # a precision, which is `dtype` here; what diffusers 0.30 wrote and no later release reads:
        # the size of a tile, which is half of `sample_height`, and a part the network never had
        ignored = ("force_upcast", "sample_size", "mid_block_add_attention")
        return read_config(cls, config, fixed=fixed, ignored=ignored, **options)

    def setup(self):
        shared = {
            "features": tuple(self.block_out_channels),
            "groups": self.norm_num_groups,
            "dtype": jnp.dtype(self.dtype),
        }
        self.encoder = Encoder(
            blocks=self.layers_per_block,
            latent_channels=self.latent_channels,
            epsilon=self.norm_eps,
            **shared,
        )
        self.decoder = Decoder(
            blocks=self.layers_per_block + 1, channels=self.out_channels, **shared
        )

    def __call__(self, clips: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Returns the clips decoded from the means of their posteriors."""
        return self.decode(self.encode(clips))

    def encode(
        self, clips: Float[Array, "b t h w c"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "b t2 h2 w2 z"]:
        """Returns scaled latents: a sample of the posterior, or its mean where `key` is None.

        Args:
            clips: clips in [-1, 1].
            key: key of the sample.

        Raises:
            ValueError: a clip of a size that the network cannot divide.
        """
        return self.scaling_factor * self._draw(clips, key)

    def image_latent(
        self, image: Float[Array, "b h w c"], frames: int, key: Key[Array, ""] | None = None
    ) -> Float[Array, "b t2 h2 w2 z"]:
        """Returns `condition.image_latent` of image-to-video: the image first, then zeros.

        Args:
            image: the first frame in [-1, 1].
            frames: frames of the latent clip.
            key: see `encode`.
        """
        latent = self._draw(image[:, None], key)
        if self.invert_scale_latents:
            latent = latent / self.scaling_factor
        else:
            latent = latent * self.scaling_factor
        return jnp.pad(latent, ((0, 0), (0, frames - 1), (0, 0), (0, 0), (0, 0)))

    def decode(self, latents: Float[Array, "b t h w z"]) -> Float[Array, "b t2 h2 w2 c"]:
        """Returns the clips, nearly in [-1, 1], of scaled latents."""
        latents = latents / self.scaling_factor
        if self.tiled:
            return apply_by_tiles(self, CogVideoXVAE._decode, latents, *self._cuts()[1])
        return self._decode(latents)

    def moments(self, clips: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 z2"]:
        """Returns mean and log variance of the latents on the channels, not scaled.

        Args:
            clips: see `encode`.

        Raises:
            ValueError: a clip of a size that the network cannot divide.
        """
        self._check(clips)
        if self.tiled:
            return apply_by_tiles(self, CogVideoXVAE._encode, clips, *self._cuts()[0])
        return self._encode(clips)

    def _encode(self, clips: Array) -> Array:
        return _in_batches(self.encoder, clips, FRAMES_AT_ONCE).astype(jnp.float32)

    def _decode(self, latents: Array) -> Array:
        return _in_batches(self.decoder, latents, LATENTS_AT_ONCE).astype(jnp.float32)

    @property
    def time_ratio(self) -> int:
        """Frames of a latent one."""
        return 2 ** min(TIME_LEVELS, len(self.block_out_channels) - 1)

    @property
    def space_ratio(self) -> int:
        """Pixels of a position of the latent, in height and in width."""
        return 2 ** (len(self.block_out_channels) - 1)

    @nn.nowrap
    def _draw(self, clips: Array, key: Array | None) -> Array:
        mean, log_variance = jnp.split(self.moments(clips), 2, axis=-1)
        if key is None:
            return mean
        deviation = jnp.exp(0.5 * jnp.clip(log_variance, -30.0, 20.0))
        return mean + deviation * jax.random.normal(key, mean.shape)

    @nn.nowrap
    def _cuts(self) -> tuple[list[Cut], list[Cut]]:
        """Cuts of rows and columns, to encode and to decode; rounded as in the original."""
        sizes = self.tile_size or (self.sample_height // 2, self.sample_width // 2)
        encode, decode = [], []
        for size, overlap in zip(sizes, self.tile_overlap, strict=True):
            latents = size // self.space_ratio
            steps = [int(length * (1 - overlap)) for length in (size, latents)]
            fades = [int(length * overlap) for length in (latents, size)]
            encode.append(Cut(size, steps[0], fades[0], latents - fades[0]))
            decode.append(Cut(latents, steps[1], fades[1], size - fades[1]))
            # otherwise the kept parts of the tiles would not meet
            whole = {size / latents, steps[0] / encode[-1].keep, decode[-1].keep / steps[1]}
            if whole != {self.space_ratio}:
                raise ValueError(
                    f"tiles of {size} pixels with an overlap of {overlap:.3g} do not fit latents "
                    f"of {self.space_ratio} pixels: set tile_size to a multiple of "
                    f"{self.space_ratio}, and tile_overlap so that the overlap is one too"
                )
        return encode, decode

    @nn.nowrap
    def _check(self, clips: Array) -> None:
        _, t, h, w, c = clips.shape
        if c != self.in_channels:
            raise ValueError(f"clips {clips.shape} must have {self.in_channels} channels, the last")
        if t != 1 and t % FRAMES_AT_ONCE > 1:
            below = t // FRAMES_AT_ONCE * FRAMES_AT_ONCE
            near = [n for n in (below, below + 1, below + FRAMES_AT_ONCE) if n]
            raise ValueError(
                f"a clip of {t} frames: CogVideoX's VAE takes 1, 8 n or 8 n + 1; "
                f"nearest are {', '.join(map(str, near))}"
            )
        if h % self.space_ratio or w % self.space_ratio:
            raise ValueError(f"frames of {(h, w)} (h, w) must be multiples of {self.space_ratio}")


def _in_batches(network: nn.Module, x: Array, size: int) -> Array:
    """Frames through `network`, `size` at once, the first batch with what is left over."""
    b, t, *rest = x.shape
    further = max(t // size, 1) - 1
    first = t - further * size
    out, seen = network(x[:, :first], {})
    if not further:
        return out

    def batch(network: nn.Module, seen: Any, x: Array) -> tuple[Any, Array]:
        out, seen = network(x, seen)
        return seen, out

    scan = nn.scan(
        batch, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
    )
    _, others = scan(network, seen, x[:, first:].reshape(b, further, size, *rest))
    return jnp.concatenate([out, others.reshape(b, -1, *others.shape[3:])], axis=1)
