"""CLIP: images and texts as directions of one space (Radford et al. 2021)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vidpref.models.clip.text import ClipText
from vidpref.models.clip.vision import ClipVision
from vidpref.models.dense import dense
from vidpref.models.norm import layer_norm
from vidpref.typing import Array, Float, Int


class Clip(nn.Module):
    """Both towers, each with a projection into the common space.

    The towers have one type of computation; directions and their products are in float32.

    Attributes:
        text: the tower of texts.
        vision: that of images, with all of its blocks.
        projection_dim: width of the common space.
    """

    text: ClipText
    vision: ClipVision
    projection_dim: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> "Clip":
        """Returns the module of a `CLIPModel`'s config.json.

        Args:
            config: the file's content.
            **options: `dtype` of both towers.

        Raises:
            ValueError: a model of another family, or a field that asks for another computation.
        """
        if config.get("model_type") != "clip":
            raise ValueError(f"model_type={config.get('model_type')!r}: this is no CLIP model")
        width = config.get("projection_dim", 512)
        if not isinstance(width, int) or isinstance(width, bool) or width < 1:
            raise ValueError(f"projection_dim={width!r} must be a whole number from 1")
        return cls(
            ClipText.from_config(_section(config, "text_config"), **options),
            ClipVision.from_config(_section(config, "vision_config"), left_out=0, **options),
            width,
        )

    def setup(self):
        vision, text = self.vision, self.text
        self.norm_out = layer_norm(vision.layer_norm_eps, affine=True)
        self.image_projection = dense(self.projection_dim, bias=False, dtype=vision.dtype)
        self.text_projection = dense(self.projection_dim, bias=False, dtype=text.dtype)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(2.6592), ())

    def embed_images(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Returns the direction of each image, of length 1.

        Args:
            images: normalised as CLIP's image processor does.

        Raises:
            ValueError: images of another size.
        """
        whole = self.norm_out(self.vision(images)[:, 0]).astype(self.vision.dtype)
        return _direction(self.image_projection(whole))

    def embed_texts(self, tokens: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Returns the direction of each text, of length 1; arguments as of `ClipText`."""
        return _direction(self.text_projection(self.text(tokens)))

    def __call__(
        self, images: Float[Array, "b h w 3"], tokens: Int[Array, "n l"]
    ) -> Float[Array, "b n"]:
        """Returns how well every image goes with every text, as the model was trained to say it.

        It is the cosine of their directions times `exp(logit_scale)`.
        """
        cosines = self.embed_images(images) @ self.embed_texts(tokens).T
        return jnp.exp(self.logit_scale) * cosines


def _direction(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    x = x.astype(jnp.float32)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The fields of a tower; those of an older file's `..._dict` count instead."""
    found = config.get(f"{name}_dict")
    found = config.get(name) if found is None else found
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} must be fields, not {str(found)[:40]!r}")
    return found
