"""A config that takes its networks, text encoder and scheduler from a diffusers pipeline."""

import dataclasses
import json

from ml_collections import ConfigDict

from vidpref.diffusion.flow import RectifiedFlow
from vidpref.interop.pipelines import AUTOENCODER, PipelineFolder

# Fields of a network that are choices of this run and not of the pipeline.
_OURS = ("attention", "remat", "unroll", "dtype", "parent", "name")


def adopt(config: ConfigDict, path: str) -> None:
    """Writes what a pipeline folder says into a config; later overrides still count.

    Sizes of the generator and its autoencoder, the noise process and the sampler of its scheduler,
    and the text encoder. The compute settings of the config stay.

    Args:
        config: unlocked.
        path: of the folder.

    Raises:
        ValueError: see `PipelineFolder`; or a pipeline of another family than the config's.
    """
    folder = PipelineFolder(path)
    name = folder.family.name
    if config.model.name != name:
        raise ValueError(
            f"config.model.init={path}: a {folder.pipeline} is a {name} generator, the config is "
            f"for {config.model.name}; choose another scale (--list)"
        )
    module = folder.transformer()
    for field in module.__dataclass_fields__:
        if field not in _OURS:
            config.model[name][field] = getattr(module, field)
    fields = json.loads((folder.path / AUTOENCODER / "config.json").read_text())
    config.model.autoencoder = ConfigDict(
        {k: v for k, v in fields.items() if not k.startswith("_")}, convert_dict=False
    )
    process, sampler = folder.scheduler()
    section = "flow" if isinstance(process, RectifiedFlow) else "ddpm"
    values = dataclasses.asdict(process)
    trained = ("time", "logit_mean", "logit_std", "time_range", "min_time", "prediction")
    config.diffusion.update({"name": section, "prediction": process.prediction})
    config.diffusion[section].update({k: v for k, v in values.items() if k not in trained})
    config.sampler.name = sampler
    config.text.update(folder.family.text)
    config.text.dim = folder.text_width()
    config.text.path = str(folder.path)
    if name == "cogvideox":
        config.text.length = module.max_text_seq_length
