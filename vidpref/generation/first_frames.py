"""What image-to-video generators see of a clip's first frame."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.generation.autoencoder import Decoder
from vidpref.interop.json_fields import read_fields
from vidpref.interop.pipelines import IMAGE_PROCESSOR, PipelineFolder
from vidpref.models.clip.vision import ClipVision
from vidpref.pixels import to_unit
from vidpref.training.sharding import abstract_params
from vidpref.typing import Array, PyTree, UInt8


def build_image_encoder(model: ConfigDict) -> ClipVision | None:
    """Returns the image encoder of `config.model`, None where the generator needs none."""
    fields = model.image_encoder
    return ClipVision.from_config(dict(fields)) if fields else None


@dataclasses.dataclass(frozen=True)
class FirstFrames:
    """Encodes first frames: `image_latent`, and `image_states` for a generator that attends to it.

    Attributes:
        autoencoder: autoencoder of the latents.
        vision: the image encoder, if there is one; it computes in float32, as in diffusers.
        processor: transformers' image processor of `vision`.
    """

    autoencoder: Decoder
    vision: ClipVision | None = None
    processor: Any = None

    def prepare(self, frames: UInt8[np.ndarray, "b h w 3"]) -> dict[str, np.ndarray]:
        """Returns what `encode` takes, computed on the host."""
        found = {"frames": frames}
        if self.vision is not None:
            pixels = self.processor(
                list(frames), return_tensors="np", input_data_format="channels_last"
            )
            found["pixels"] = np.moveaxis(pixels["pixel_values"], 1, -1)
        return found

    def encode(self, params: PyTree, prepared: dict[str, Array], steps: int) -> dict[str, Array]:
        """Returns the conditions of a batch by name.

        Args:
            params: {"autoencoder": .., "vision": ..}.
            prepared: what `prepare` returned.
            steps: steps of the latent in time.
        """
        x = to_unit(prepared["frames"])
        found = {"image_latent": self.autoencoder.image_latent(params["autoencoder"], x, steps)}
        if self.vision is not None:
            variables = {"params": params["vision"]}
            found["image_states"] = self.vision.apply(variables, prepared["pixels"])
        return found


def open_first_frames(
    model: ConfigDict, folder: PipelineFolder, decoder: tuple[Decoder, PyTree], mesh: Mesh
) -> tuple[FirstFrames, PyTree]:
    """Returns the encoder of first frames and its parameters.

    Args:
        model: the config's section.
        folder: with the image encoder's weights, where the generator needs one.
        decoder: the autoencoder and its parameters.
        mesh: devices for the image encoder.

    Raises:
        ValueError: files that are not those of such an encoder.
    """
    autoencoder, weights = decoder
    vision = build_image_encoder(model)
    if vision is None:
        return FirstFrames(autoencoder), {"autoencoder": weights}
    params = folder.load_image_encoder(vision, abstract_vision_params(vision, mesh))
    processor = _read_processor(folder)
    return FirstFrames(autoencoder, vision, processor), {"autoencoder": weights, "vision": params}


def abstract_vision_params(vision: ClipVision, mesh: Mesh) -> PyTree:
    """Returns the parameters of an image encoder as `jax.ShapeDtypeStruct`s with shardings."""
    example = jnp.zeros((1, vision.image_size, vision.image_size, 3))
    boxed = jax.eval_shape(vision.init, jax.random.key(0), example)["params"]
    return abstract_params(boxed, mesh)


def _read_processor(folder: PipelineFolder) -> Any:
    from transformers import CLIPImageProcessorPil  # takes seconds, and only Wan's images need it

    path = folder.path / IMAGE_PROCESSOR
    read_fields(path / "preprocessor_config.json")  # says what is wrong in our words
    try:
        return CLIPImageProcessorPil.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} holds no image processor that can be read: {error}") from error
