"""A config that takes its networks, text encoder and scheduler from a diffusers pipeline."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from vidpref.config.by_name import ConfigError, apply_overrides, named_config
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.interop.loading import component_config
from vidpref.interop.pipelines import AUTOENCODER, PipelineFolder
from vidpref.storage.addresses import is_address

# Fields of a network that are choices of this run and not of the pipeline.
_OURS = ("attention", "remat", "unroll", "dtype", "parent", "name")


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the locked config of `NAME[:SCALE]`, with what its pipeline says and overrides.

    Args:
        spec: e.g. "flow_dpo:wan2_1_1_3b".
        overrides: e.g. ["align.beta=500"]. With model.init=FOLDER the config first takes what that
            pipeline says, see `adopt`; a pipeline's fields can be overridden too.

    Raises:
        ConfigError: see `named_config`, or a folder that holds no such pipeline.
    """
    chosen = [override for override in overrides if override.startswith("model.init=")]
    config = named_config(spec, chosen)
    if pipeline := config.model.init:
        config.unlock()
        try:
            adopt(config, pipeline)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        config.lock()
    return apply_overrides(config, overrides)


def adopt(config: ConfigDict, path: str) -> None:
    """Writes what a pipeline folder says into a config; later overrides still count.

    Sizes of the generator and its autoencoder, the noise process and the sampler of its scheduler,
    and the encoders of text and image. The compute settings of the config stay.

    Args:
        config: an unlocked config.
        path: folder of the pipeline, or its address in a bucket.

    Raises:
        ValueError: see `PipelineFolder`; a pipeline of another family than the config's, or a
            network that computes something else than ours.
    """
    folder = PipelineFolder(path, weights=False)
    name = folder.family.name
    if config.model.name != name:
        raise ValueError(
            f"config.model.init={path}: a {folder.pipeline} is a {name} generator, the config is "
            f"for {config.model.name}; choose another scale (--list)"
        )
    module = folder.transformer()
    config.model[name].update(_fields(module))
    folder.autoencoder()  # refused here, where the message can name the file
    fields = component_config(folder.path / AUTOENCODER)
    config.model.autoencoder = ConfigDict(
        {k: v for k, v in fields.items() if not k.startswith("_")}, convert_dict=False
    )
    config.model.image_encoder = ConfigDict()
    if folder.attends_to_image:
        config.model.image_encoder.update(_fields(folder.image_encoder()))
    process, sampler = folder.scheduler()
    section = "flow" if isinstance(process, RectifiedFlow) else "ddpm"
    values = dataclasses.asdict(process)
    trained = ("time", "logit_mean", "logit_std", "time_range", "min_time", "prediction")
    config.diffusion.update({"name": section, "prediction": process.prediction})
    config.diffusion[section].update({k: v for k, v in values.items() if k not in trained})
    config.sampler.name = sampler
    config.text.update(folder.family.text_fields(module))
    config.text.name, config.text.dim = folder.text_encoder()
    config.text.path = path if is_address(path) else str(folder.path)


def _fields(module: nn.Module) -> dict[str, Any]:
    return {f: getattr(module, f) for f in module.__dataclass_fields__ if f not in _OURS}
