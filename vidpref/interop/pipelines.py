"""Pipeline folders of diffusers: the networks in them, their settings, and their weights."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn

from vidpref.diffusion.process import Process
from vidpref.interop import clip, cogvideox, wan
from vidpref.interop.json_fields import read_fields
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.safetensors_files import TensorFolder, weights_fault
from vidpref.interop.schedulers import read_scheduler
from vidpref.models.clip.vision import ClipVision
from vidpref.storage.copies import here
from vidpref.typing import PyTree

INDEX = "model_index.json"
TRANSFORMER, AUTOENCODER, TEXT_ENCODER = "transformer", "vae", "text_encoder"
IMAGE_ENCODER, IMAGE_PROCESSOR = "image_encoder", "image_processor"
SCHEDULER = "scheduler"
TEXT_ENCODERS = ("t5", "umt5")
_READ = frozenset({TRANSFORMER, AUTOENCODER, TEXT_ENCODER, SCHEDULER, "tokenizer"})
_READ |= {IMAGE_ENCODER, IMAGE_PROCESSOR}
_SAMPLED_BYTES = 2**20  # of each end of a weights file, for the fingerprint

FAMILIES = {family.name: family for family in (wan.FAMILY, cogvideox.FAMILY)}


class PipelineFolder:
    """A pipeline that `save_pretrained` of diffusers wrote, or a download of one.

    Args:
        path: the folder, or its address in a bucket.
        weights: of an address, whether weights are brought from there too.

    Attributes:
        path: the folder.
        pipeline: class name in `model_index.json`.
        family: family of that class.
        attends_to_image: whether the generator sees an image encoder's states.

    Raises:
        ValueError: no such folder, another pipeline, or a component that is missing.
    """

    def __init__(self, path: str | os.PathLike, *, weights: bool = True):
        self.path = here(path, weights=weights)
        index = self.path / INDEX
        if not index.is_file():
            raise ValueError(f"{self.path} has no {INDEX}: give the folder of a diffusers pipeline")
        fields = read_fields(index)
        self.pipeline = fields.get("_class_name", "")
        known = {name: family for family in FAMILIES.values() for name in family.pipelines}
        if not isinstance(self.pipeline, str) or self.pipeline not in known:
            raise ValueError(
                f"{index}: vidpref cannot run a {self.pipeline!r}; known are {', '.join(known)}"
            )
        self.family = known[self.pipeline]
        self._check_index(fields)
        missing = self._missing(TRANSFORMER, AUTOENCODER, TEXT_ENCODER, SCHEDULER)
        self.attends_to_image = False
        if TRANSFORMER not in missing:
            transformer = component_config(self.path / TRANSFORMER)
            self.attends_to_image = transformer.get("image_dim") is not None
            if transformer.get("pos_embed_seq_len") is not None:
                raise ValueError(
                    f"{self.path} is a model of first and last frame to video, which vidpref does "
                    "not run; take one of text to video or image to video"
                )
        if self.attends_to_image:
            missing += self._missing(IMAGE_ENCODER, IMAGE_PROCESSOR)
        if missing:
            names = f"folder {missing[0]}" if len(missing) == 1 else f"folders {', '.join(missing)}"
            raise ValueError(f"{self.path} has no {names}: is the download complete?")

    def check_weights(self) -> None:
        """Refuses weights that are missing, cut short or stand-ins, without reading them.

        Raises:
            ValueError: names the files of every component.
        """
        names = [TRANSFORMER, AUTOENCODER, *([IMAGE_ENCODER] if self.attends_to_image else [])]
        faults = [weights_fault(self.path / name) for name in names]
        if any(faults):
            raise ValueError("; ".join(fault for fault in faults if fault))

    def transformer(self, **options: Any) -> nn.Module:
        """Returns the generator; `options` are fields that diffusers does not have."""
        return self._module(self.family.transformer, TRANSFORMER, options)

    def autoencoder(self, **options: Any) -> nn.Module:
        """Returns the autoencoder; `options` as for `transformer`."""
        return self._module(self.family.autoencoder, AUTOENCODER, options)

    def image_encoder(self, **options: Any) -> ClipVision:
        """Returns the encoder of first frames, where `attends_to_image`; `options`: `dtype`."""
        return self._module(ClipVision, IMAGE_ENCODER, options)

    def load_transformer(self, module: nn.Module, target: PyTree, **options: Any) -> PyTree:
        """Returns the generator's parameters as `load_onto` places them; `options` are its own."""
        table = self.family.transformer_table(module)
        return load_onto(target, self.path / TRANSFORMER, table, **options)

    def load_autoencoder(self, module: nn.Module, target: PyTree) -> PyTree:
        """Returns the autoencoder's parameters as `load_onto` places them."""
        return load_onto(target, self.path / AUTOENCODER, self.family.autoencoder_table(module))

    def load_image_encoder(self, module: ClipVision, target: PyTree) -> PyTree:
        """Returns the image encoder's parameters as `load_onto` places them."""
        folder = self.path / IMAGE_ENCODER
        names = TensorFolder(folder).shapes
        ignore = clip.not_of_the_states(module, names)
        return load_onto(target, folder, clip.clip_vision_table(names), ignore=ignore)

    def text_encoder(self) -> tuple[str, int]:
        """Returns the kind of the text encoder ("t5", "umt5") and the width of its states."""
        folder = self.path / TEXT_ENCODER
        fields = component_config(folder)
        for name, kind in (("model_type", str), ("d_model", int)):
            if name not in fields:
                raise ValueError(f"{folder}/config.json has no {name!r}")
            if not isinstance(fields[name], kind):
                raise ValueError(f"{folder}/config.json: {name}={fields[name]!r} cannot be")
        if fields["model_type"] not in TEXT_ENCODERS:
            raise ValueError(
                f"{folder}/config.json: model_type={fields['model_type']!r}: known are "
                + ", ".join(TEXT_ENCODERS)
            )
        return fields["model_type"], fields["d_model"]

    def scheduler(self) -> tuple[Process, str]:
        """Returns the noise process and the name of the sampler; see `read_scheduler`."""
        path = self.path / SCHEDULER / "scheduler_config.json"
        config = read_fields(path)
        try:
            return read_scheduler(config)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def fingerprint(self, component: str) -> str:
        """Changes with a component's config or weights; of large files both ends are read."""
        return digest(self.path / component, ["config.json"])

    def _missing(self, *names: str) -> list[str]:
        return [name for name in names if not (self.path / name).is_dir()]

    def _check_index(self, fields: Mapping[str, Any]) -> None:
        """Refuses parts of a pipeline that would compute something else; see `read_config`."""
        index = self.path / INDEX
        two = fields.get("transformer_2") not in (None, [None, None])
        if fields.get("boundary_ratio") is not None or fields.get("expand_timesteps") or two:
            raise ValueError(f"{index} is of Wan2.2, which has other networks than Wan2.1")
        for name, value in fields.items():
            kind = value[1] if isinstance(value, list) and len(value) == 2 else value
            wanted = self.family.classes.get(name, kind)
            if wanted not in (kind, None) and kind is not None:
                raise ValueError(
                    f"{index}: {name} is a {kind!r}; vidpref reads the {name} of a {wanted}"
                )
            if not (name in _READ or name.startswith("_") or not kind):
                raise ValueError(
                    f"{index}: the {self.pipeline} has {name}={value!r}, which vidpref does not "
                    "read; take it out if the clips do not depend on it"
                )

    def _module(self, kind: type[nn.Module], component: str, options: dict) -> nn.Module:
        folder = self.path / component
        try:
            return kind.from_config(component_config(folder), **options)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error


def digest(folder: Path, files: list[str | Path]) -> str:
    """Returns 12 hex digits of `files` (where they exist) and of the safetensors of a folder.

    Of weights, the size and both ends are read.
    """
    found = hashlib.sha256()
    for path in [folder / name for name in files if (folder / name).exists()]:
        found.update(path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        found.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            found.update(file.read(_SAMPLED_BYTES))
            file.seek(max(0, size - _SAMPLED_BYTES))
            found.update(file.read(_SAMPLED_BYTES))
    return found.hexdigest()[:12]
