"""The autoencoder between clips and the latents that some generators work on."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from ml_collections import ConfigDict

from vidpref.interop.pipelines import FAMILIES
from vidpref.pixels import clip_to_unit
from vidpref.typing import Array, Float, PyTree


def build_autoencoder(model: ConfigDict) -> nn.Module:
    """Returns the autoencoder of `config.model`, with the fields of `model.autoencoder`.

    With `model.tiled` it works on one tile of a frame at a time, to need less memory.
    """
    family = FAMILIES[model.name]
    return family.autoencoder.from_config(dict(model.autoencoder), tiled=model.tiled)


def latent_shape(
    autoencoder: nn.Module, frames: int, height: int, width: int
) -> tuple[int, int, int, int]:
    """Returns (t, h, w, c) of the latent of a clip.

    Raises:
        ValueError: a clip that the autoencoder cannot divide.
    """
    clip = jax.ShapeDtypeStruct((1, frames, height, width, autoencoder.in_channels), jnp.float32)
    try:
        found = jax.eval_shape(
            lambda x: autoencoder.init_with_output(jax.random.key(0), x, method="encode")[0], clip
        )
    except ValueError as error:
        raise ValueError(
            f"config.data: {frames} frames of {height}x{width} have no latent: {error}"
        ) from error
    return found.shape[1:]


@dataclasses.dataclass(frozen=True)
class Decoder:
    """An autoencoder in both directions; in a cascade, the stage after a generator of latents.

    Attributes:
        autoencoder: the network.
        output: what its clips are called in records.
    """

    autoencoder: nn.Module
    output: str = "video"
    steps: ClassVar[int] = 0  # nothing is denoised

    def init(self, key: Array) -> PyTree:
        """Returns fresh parameters of the whole autoencoder, boxed."""
        size = self.autoencoder.space_ratio
        clip = jnp.zeros((1, 1, size, size, self.autoencoder.in_channels))
        return self.autoencoder.init(key, clip)["params"]

    def sample(self, params: PyTree, keys: Array, batch: dict) -> Float[Array, "b t h w c"]:
        """Returns the clips in [-1, 1] of `batch["latent"]`; nothing is drawn."""
        decode = self.autoencoder.apply({"params": params}, batch["latent"], method="decode")
        return clip_to_unit(decode)

    def clip_shape(self, latent: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of a clip, frames first, that a latent of a shape becomes."""
        batch = {"latent": jax.ShapeDtypeStruct((1, *latent), jnp.float32)}
        params = meta.unbox(jax.eval_shape(self.init, jax.random.key(0)))
        return jax.eval_shape(self.sample, params, jax.random.key(0), batch).shape[1:]

    def encode(self, params: PyTree, clips: Float[Array, "b t h w c"]) -> Array:
        """Returns the means of the latents of clips in [-1, 1]."""
        return self.autoencoder.apply({"params": params}, clips, method="encode")

    def image_latent(
        self, params: PyTree, images: Float[Array, "b h w c"], steps: int
    ) -> Float[Array, "b t h2 w2 c2"]:
        """Returns what image-to-video networks take of first frames, without zeros at its end.

        Args:
            params: parameters of the autoencoder.
            images: first frames in [-1, 1].
            steps: length of the latent clip.
        """
        steps = self.autoencoder.image_steps or steps
        method = self.autoencoder.image_latent
        return self.autoencoder.apply({"params": params}, images, steps, method=method)
