"""What the stages of a recipe stand on: the data, latents of its clips, embeddings of its texts."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache
from vidpref.generation import text_encoders
from vidpref.generation.autoencoder import Decoder, build_autoencoder
from vidpref.generation.first_frames import open_first_frames
from vidpref.interop.pipelines import AUTOENCODER, IMAGE_ENCODER, PipelineFolder
from vidpref.models.registry import PORTED
from vidpref.runs.artifacts import Artifact
from vidpref.runs.runner import Runner
from vidpref.stages import encode, preferences
from vidpref.stages.data import build_data, open_data
from vidpref.training.sharding import abstract_params
from vidpref.typing import Array, PyTree


class Sources:
    """Data, latents and texts of a config, each made when it is first asked for.

    Args:
        runner: of the config's stages.
        image: of the config's generator, see `Generator`.
        mesh: devices.
    """

    def __init__(self, runner: Runner, image: str, mesh: Mesh):
        self._config, self._run = runner.config, runner.run
        self._image, self._mesh = image, mesh

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """What a stage that reads clips or texts has as inputs."""
        sources = {"data": self.data_artifact, "text": self.text_artifact}
        return sources | ({"latents": self.latents_artifact} if self._from_file else {})

    @functools.cached_property
    def data_artifact(self) -> Artifact:
        if self._from_file:
            body = functools.partial(preferences.read, data=self._config.data)
            lists = {"lists": preferences.fingerprint(self._config.data)}
            return self._run("data", body, ("data",), settings=lists)
        body = functools.partial(build_data, self._config)
        cascade = {"cascade": self._config.superres.enabled}  # needs its clips at two sizes
        return self._run("data", body, ("data",), settings=cascade)

    @functools.cached_property
    def data(self) -> Data:
        if self._from_file:
            return self._opened[0]
        return open_data(self._config, self.data_artifact.path)

    @functools.cached_property
    def encoded(self) -> preferences.Encoded | None:
        """The preferences of the data, where it has some."""
        return self._opened[1] if self._from_file else None

    @functools.cached_property
    def _opened(self) -> tuple[Data, preferences.Encoded]:
        data, latents = self.data_artifact.path, self.latents_artifact.path
        return preferences.open_encoded(self._config.data, data, latents)

    @functools.cached_property
    def latents_artifact(self) -> Artifact:
        def body(folder: Path) -> None:
            images = None
            if self._image == "image_latent":
                model, mesh = self._config.model, self._mesh
                images = open_first_frames(model, self.pipeline, self.decoder, mesh)
            encode.encode_clips(
                folder,
                preferences.clips_of(self.data_artifact.path),
                self.decoder[0],
                self.decoder[1],
                self._config.data,
                batch_size=self._config.data.encode_batch,
                images=images,
                mesh=self._mesh,
            )

        settings = {"autoencoder": self.autoencoder_fingerprint, "image": self._image}
        if self.pipeline.attends_to_image:
            settings["image_encoder"] = self.pipeline.fingerprint(IMAGE_ENCODER)
        return self._run(
            "latents", body, ("data",), {"data": self.data_artifact}, settings=settings
        )

    @functools.cached_property
    def text_artifact(self) -> Artifact:
        def body(folder: Path) -> None:
            encoder = text_encoders.build_text_encoder(self._config.text, self._mesh)
            prompts = [*self.data.prompts]
            if self.null_prompt is not None:
                prompts.append(self.null_prompt)
            TextCache.build(folder, encoder, prompts)

        # an embedding is of its text and the encoder alone; only which ones are needed may differ
        null = {} if self.null_prompt is None else {"null_prompt": self.null_prompt}
        return self._run("text", body, ("text",), {"data": self.data_artifact}, settings=null)

    @property
    def _from_file(self) -> bool:
        return self._config.data.name == preferences.NAME

    @property
    def null_prompt(self) -> str | None:
        """What stands for no text, where the generator takes words for it and not a mask."""
        ported = self._config.model.name in PORTED
        return self._config.sampler.negative_prompt if ported else None

    @functools.cached_property
    def pipeline(self) -> PipelineFolder:
        return PipelineFolder(self._config.model.init)

    @functools.cached_property
    def autoencoder_fingerprint(self) -> list:
        """Changes with the weights and the fields of the autoencoder."""
        fields = self._config.model.autoencoder.to_dict()
        return [self.pipeline.fingerprint(AUTOENCODER), fields]

    @functools.cached_property
    def decoder(self) -> tuple[Decoder, PyTree]:
        """The autoencoder of latents and its parameters."""
        decoder = Decoder(build_autoencoder(self._config.model))
        wanted = target(decoder.init, self._mesh)
        return decoder, self.pipeline.load_autoencoder(decoder.autoencoder, wanted)

    @functools.cached_property
    def texts(self) -> TextCache:
        return TextCache(self.text_artifact.path)


def target(init: Callable[[Array], PyTree], mesh: Mesh) -> PyTree:
    """Returns shapes and shardings of the parameters that `init(key)` makes."""
    return abstract_params(jax.eval_shape(init, jax.random.key(0)), mesh)
