"""Pipeline folders of diffusers: the networks in them, their settings, and their weights."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.process import Process
from vidpref.interop import clip, cogvideox, wan
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.safetensors_files import TensorFolder
from vidpref.models.clip.vision import ClipVision
from vidpref.typing import PyTree

INDEX = "model_index.json"
TRANSFORMER, AUTOENCODER, TEXT_ENCODER = "transformer", "vae", "text_encoder"
IMAGE_ENCODER, IMAGE_PROCESSOR = "image_encoder", "image_processor"
_SAMPLED_BYTES = 2**20  # of each end of a weights file, for the fingerprint

FAMILIES = {family.name: family for family in (wan.FAMILY, cogvideox.FAMILY)}


class PipelineFolder:
    """A pipeline that `save_pretrained` of diffusers wrote, or a download of one.

    Attributes:
        path: the folder.
        pipeline: class name in `model_index.json`.
        family: family of that class.
        attends_to_image: whether the generator sees an image encoder's states.

    Raises:
        ValueError: no such folder, another pipeline, or a component that is missing.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).expanduser()
        index = self.path / INDEX
        try:
            fields = json.loads(index.read_text())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(
                f"{self.path} has no {INDEX}: give the folder of a diffusers pipeline"
            ) from error
        except ValueError as error:
            raise ValueError(f"{index} is not JSON: {error}") from error
        self.pipeline = fields.get("_class_name", "")
        known = {name: family for family in FAMILIES.values() for name in family.pipelines}
        if self.pipeline not in known:
            raise ValueError(
                f"{index}: vidpref cannot run a {self.pipeline!r}; known are {', '.join(known)}"
            )
        self.family = known[self.pipeline]
        if fields.get("boundary_ratio") is not None or fields.get("expand_timesteps"):
            raise ValueError(f"{index} is of Wan2.2, which has other networks than Wan2.1")
        for name in (TRANSFORMER, AUTOENCODER, TEXT_ENCODER, "scheduler"):
            self._require(name)
        transformer = component_config(self.path / TRANSFORMER)
        self.attends_to_image = transformer.get("image_dim") is not None
        if self.attends_to_image:
            self._require(IMAGE_ENCODER)
            self._require(IMAGE_PROCESSOR)
        if transformer.get("pos_embed_seq_len") is not None:
            raise ValueError(
                f"{self.path} is a model of first and last frame to video, which vidpref does not "
                "run; take one of text to video or image to video"
            )

    def transformer(self, **options: Any) -> nn.Module:
        """Returns the generator; `options` are fields that diffusers does not have."""
        return self._module(self.family.transformer, TRANSFORMER, options)

    def autoencoder(self, **options: Any) -> nn.Module:
        """Returns the autoencoder; `options` as for `transformer`."""
        return self._module(self.family.autoencoder, AUTOENCODER, options)

    def load_transformer(self, module: nn.Module, target: PyTree) -> PyTree:
        """Returns the generator's parameters as `load_onto` places them."""
        return load_onto(target, self.path / TRANSFORMER, self.family.transformer_table(module))

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
        fields = component_config(self.path / TEXT_ENCODER)
        try:
            return fields["model_type"], fields["d_model"]
        except KeyError as error:
            raise ValueError(f"{self.path / TEXT_ENCODER}/config.json has no {error}") from error

    def scheduler(self) -> tuple[Process, str]:
        """Returns the noise process and the name of the sampler; see `read_scheduler`."""
        path = self.path / "scheduler" / "scheduler_config.json"
        try:
            config = json.loads(path.read_text())
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        try:
            return read_scheduler(config)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def fingerprint(self, component: str) -> str:
        """Changes with a component's config or weights; of large files both ends are read."""
        return digest(self.path / component, ["config.json"])

    def _require(self, name: str) -> None:
        if not (self.path / name).is_dir():
            raise ValueError(f"{self.path} has no folder {name}: is the download complete?")

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


def read_scheduler(config: Mapping[str, Any]) -> tuple[Process, str]:
    """Returns the process and the sampler that compute what a scheduler of diffusers does.

    Args:
        config: config of a `UniPCMultistepScheduler` or `FlowMatchEulerDiscreteScheduler` (flow),
            or a `CogVideoXDDIMScheduler` or `CogVideoXDPMScheduler`.

    Raises:
        ValueError: another scheduler, or a field that asks for another computation.
    """
    name = config.get("_class_name")
    if name not in _SCHEDULERS:
        raise ValueError(f"the scheduler {name!r}: known are {', '.join(_SCHEDULERS)}")
    fixed, read, sampler = _SCHEDULERS[name]
    # a field that the file lacks has the default of diffusers, which is given second
    for field, (wanted, default) in fixed.items():
        value = config.get(field, default)
        if value != wanted:
            raise ValueError(f"{name} with {field}={value!r}: only {wanted!r} is implemented")
    return read(config), sampler


def _unipc(config: Mapping[str, Any]) -> RectifiedFlow:
    return RectifiedFlow(shift=float(config.get("flow_shift", 1.0)), spacing="unipc")


def _euler(config: Mapping[str, Any]) -> RectifiedFlow:
    return RectifiedFlow(shift=float(config.get("shift", 1.0)))


def _cogvideox(config: Mapping[str, Any]) -> DDPM:
    return DDPM(
        "scaled_linear",
        prediction="v",
        spacing=config.get("timestep_spacing", "leading"),
        snr_shift=float(config.get("snr_shift_scale", 3.0)),
        zero_terminal_snr=bool(config.get("rescale_betas_zero_snr", False)),
    )


_THOUSAND = {"num_train_timesteps": (1000, 1000)}
_UNIPC = {
    **_THOUSAND,
    "prediction_type": ("flow_prediction", "epsilon"),
    "use_flow_sigmas": (True, False),
    "solver_order": (2, 2),
    "solver_type": ("bh2", "bh2"),
    "predict_x0": (True, True),
    "lower_order_final": (True, True),
    "disable_corrector": ([], []),
    "final_sigmas_type": ("zero", "zero"),
    "thresholding": (False, False),
    "use_dynamic_shifting": (False, False),
    "shift_terminal": (None, None),
    "use_karras_sigmas": (False, False),
    "use_exponential_sigmas": (False, False),
    "use_beta_sigmas": (False, False),
}
_EULER = {
    **_THOUSAND,
    "use_dynamic_shifting": (False, False),
    "invert_sigmas": (False, False),
    "shift_terminal": (None, None),
    "use_karras_sigmas": (False, False),
    "use_exponential_sigmas": (False, False),
    "use_beta_sigmas": (False, False),
    "stochastic_sampling": (False, False),
}
_COGVIDEOX = {
    **_THOUSAND,
    "prediction_type": ("v_prediction", "epsilon"),
    "beta_schedule": ("scaled_linear", "scaled_linear"),
    "beta_start": (0.00085, 0.00085),
    "beta_end": (0.012, 0.012),
    "trained_betas": (None, None),
    "set_alpha_to_one": (True, True),
    "steps_offset": (0, 0),
}
_SCHEDULERS = {
    "UniPCMultistepScheduler": (_UNIPC, _unipc, "unipc"),
    "FlowMatchEulerDiscreteScheduler": (_EULER, _euler, "euler"),
    "CogVideoXDDIMScheduler": (_COGVIDEOX, _cogvideox, "cogvideox_ddim"),
    "CogVideoXDPMScheduler": (_COGVIDEOX, _cogvideox, "cogvideox_dpm"),
}
