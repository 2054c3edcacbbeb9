"""What the stages of a run stand on: data, latents of its clips, embeddings of its texts.

Each is a stage, known before anything runs, and an object that opens what the stage wrote.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.config.causes import Causes
from vidpref.config.schema import PREFERENCES
from vidpref.coordination.agreeing import decided
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache
from vidpref.digests import digest_files, files_below
from vidpref.generation import text_encoders
from vidpref.generation.autoencoder import Decoder, build_autoencoder
from vidpref.generation.cascade import CascadeNetwork
from vidpref.generation.first_frames import open_first_frames
from vidpref.interop.pipelines import AUTOENCODER, IMAGE_ENCODER, PipelineFolder
from vidpref.models.registry import backbone
from vidpref.runs.graph import Stage, folders_of, remembered_in
from vidpref.stages import encode, preferences
from vidpref.stages.data import build_data, open_data
from vidpref.storage import mirror
from vidpref.storage.copies import here
from vidpref.training.sharding import abstract_params, filled_up, make_mesh
from vidpref.typing import Array, PyTree


class Inputs:
    """Data, latents and texts of a config in a work directory.

    Args:
        config: the config of a run.
        workdir: the work directory.
    """

    def __init__(self, config: ConfigDict, workdir: Path):
        self._config, self._workdir = config, workdir
        self.causes = Causes(config)

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The devices of the run."""
        return make_mesh(self._config.mesh.to_dict())

    @property
    def stages(self) -> dict[str, Stage]:
        """The inputs of a stage that reads clips or texts."""
        found = {"data": self.data_stage, "text": self.text_stage}
        return found | ({"latents": self.latents_stage} if self._from_file else {})

    @functools.cached_property
    def data_stage(self) -> Stage:
        config = self._config
        # by one process: each would open every clip
        files = decided("what lies in the data's files", self._data_files)
        known = self.causes.of("data") | {"files": files}
        if self._from_file:
            body = functools.partial(preferences.read, data=config.data)
        else:
            body = functools.partial(build_data, config)
            # a cascade needs clips of two sizes
            known |= self.causes.of("superres.enabled")
        return Stage("data", body, known)

    @functools.cached_property
    def text_stage(self) -> Stage:
        def body(folder: Path) -> None:
            encoder = text_encoders.build_text_encoder(self._config.text, self.mesh)
            TextCache.build(folder, encoder, [*self.data.prompts, *self._null_prompts])

        known = self.causes.of("text") | {
            "weights": text_encoders.weights_digest(self._config.text),
            "null_prompts": self._null_prompts,
        }
        inputs = {"data": self.data_stage}
        if self._from_file:  # prompts of clips that could not be read are not embedded
            inputs["latents"] = self.latents_stage
        return Stage("text", body, known, inputs)

    @functools.cached_property
    def latents_stage(self) -> Stage:
        config = self._config

        def body(folder: Path) -> dict[str, int]:
            decoder, params = self.decoder.network, self.decoder.load()
            images = None
            if self._sees == "image_latent":
                images = open_first_frames(
                    config.model, self.pipeline, (decoder, params), self.mesh
                )
            return encode.encode_clips(
                folder,
                preferences.clips_of(config.data),
                decoder,
                params,
                config.data,
                batch_size=filled_up(config.data.encode_batch, self.mesh),
                images=images,
                mesh=self.mesh,
                earlier=folders_of("latents", known, self._workdir, besides=folder),
            )

        reads = ["data.frames", "data.height", "data.width", "data.buckets", "data.fps"]
        known = self.causes.of(*reads, "data.short") | self.autoencoder_causes
        known["first_frame"] = self._sees
        if self.pipeline.attends_to_image:
            known["image_encoder"] = self.pipeline.fingerprint(IMAGE_ENCODER)
        return Stage("latents", body, known, {"data": self.data_stage})

    def folder(self, stage: Stage) -> Path:
        """Returns where a stage's files lie, once they are here."""
        return mirror.pull(self._workdir / stage.folder)

    @functools.cached_property
    def data(self) -> Data:
        """The clips and scenes; its stages must be done."""
        if self._from_file:
            return self._opened[0]
        return open_data(self._config, self.folder(self.data_stage))

    @functools.cached_property
    def encoded(self) -> preferences.Encoded | None:
        """The preferences of the data, where it has some."""
        return self._opened[1] if self._from_file else None

    @functools.cached_property
    def _opened(self) -> tuple[Data, preferences.Encoded]:
        data, latents = self.folder(self.data_stage), self.folder(self.latents_stage)
        return preferences.open_encoded(self._config.data, data, latents)

    @functools.cached_property
    def texts(self) -> TextCache:
        """The embeddings of all prompts; its stage must be done."""
        return TextCache(self.folder(self.text_stage))

    @property
    def no_text(self) -> str | None:
        """The prompt that means no text in training; None where a mask says it."""
        return backbone(self._config.model.name).null_prompt("")

    @property
    def negative_prompt(self) -> str | None:
        """The prompt of guidance's other branch; None where a mask says that there is no text."""
        words = self._config.sampler.negative_prompt
        return backbone(self._config.model.name).null_prompt(words)

    @property
    def _null_prompts(self) -> list[str]:
        prompts = (self.no_text, self.negative_prompt)
        return list(dict.fromkeys(prompt for prompt in prompts if prompt is not None))

    @functools.cached_property
    def pipeline(self) -> PipelineFolder:
        """The folder of `config.model.init`."""
        return PipelineFolder(self._config.model.init)

    @functools.cached_property
    def decoder(self) -> CascadeNetwork:
        """The autoencoder of latents, loaded where it is used."""
        return decoder_of(self.pipeline, self._config.model, self.mesh)

    @functools.cached_property
    def autoencoder_causes(self) -> dict[str, Any]:
        """Changes with the weights and the fields of the autoencoder."""
        known = self.causes.of("model.autoencoder", "model.tiled")
        return known | {"autoencoder": self.pipeline.fingerprint(AUTOENCODER)}

    @property
    def latent(self) -> bool:
        """Whether the generator's clips are latents of an autoencoder."""
        return backbone(self._config.model.name).latents

    @property
    def _from_file(self) -> bool:
        return self._config.data.name == PREFERENCES

    @functools.cached_property
    def _sees(self) -> str:
        """What the generator sees of a first frame, as `Backbone.sees` says."""
        model = self._config.model
        record = backbone(model.name)
        return record.sees(record.module(**model[model.name].to_dict()))

    def _data_files(self) -> str:
        """Digits of all files that the data comes from; "" for a world that is computed."""
        data, remembered = self._config.data, remembered_in(self._workdir)
        if self._from_file:
            return preferences.files_digest(data, remembered)
        files = []
        if data.path:
            files += files_below(here(data.path))
        if data.name == "something_something_v2":
            named = here(data.prompts)
            prompts = named if named.is_file() else PROJECT_ROOT / "data" / "prompts" / named
            files.append(("prompts", prompts))
        return digest_files(files, remembered) if files else ""


def decoder_of(pipeline: PipelineFolder, model: ConfigDict, mesh: Mesh) -> CascadeNetwork:
    """Returns the autoencoder of a pipeline as the second network of a cascade.

    Args:
        pipeline: the folder with its weights.
        model: the config's section.
        mesh: devices for them.
    """
    decoder = Decoder(build_autoencoder(model))

    def load() -> PyTree:
        return pipeline.load_autoencoder(decoder.autoencoder, target(decoder.init, mesh))

    return CascadeNetwork(decoder, load)


def target(init: Callable[[Array], PyTree], mesh: Mesh) -> PyTree:
    """Returns shapes and shardings of the parameters that `init(key)` makes."""
    return abstract_params(jax.eval_shape(init, jax.random.key(0)), mesh)
