"""The data stage: a TFDS builder of the checkout's `data/`, built once, read without TensorFlow."""

import contextlib
import io
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from vidpref.config.by_name import PROJECT_ROOT, import_from_checkout
from vidpref.coordination.agreeing import decided, first_host
from vidpref.datasets.scenes import Data, Scene
from vidpref.storage.addresses import is_address
from vidpref.storage.copies import here, path_of

_PLACES = ("path", "prompts")  # fields that builders read from


def build_data(config: ConfigDict, folder: Path) -> None:
    """Builds the data set `config.data.name` in `folder`; a finished build is left as it is.

    Of many processes one builds, and the others wait: TFDS' builds in one folder break each other.

    Raises:
        ValueError: unknown data set, or what its builder refuses.
    """
    decided("the data set", lambda: _build(config, folder))


def _build(config: ConfigDict, folder: Path) -> None:
    _bring(config)
    tfds.disable_progress_bar()
    # TFDS prints that it downloads something of unknown size: nothing is, ever
    with contextlib.redirect_stdout(io.StringIO()):
        _builder(config, folder).download_and_prepare(file_format="array_record")


def check_data(config: ConfigDict) -> None:
    """Refuses what `build_data` would refuse, as far as lists and folders tell; nothing is built.

    Raises:
        ValueError: unknown data set, sizes that it does not have, or lists that cannot be read.
        FileNotFoundError: a list or a folder is missing.
    """
    known_prompts(config)


def known_prompts(config: ConfigDict) -> list[str]:
    """Returns the prompts of a data set that its lists name, without building it.

    Those of a data set in a bucket are known to the first process alone, which builds it.

    Raises:
        ValueError, FileNotFoundError: see `check_data`.
    """
    if is_address(config.data.path) and not first_host():
        return []
    _bring(config)
    try:
        _, options = _options(config)
        return options.known_prompts() if hasattr(options, "known_prompts") else []
    except FileNotFoundError as error:
        raise FileNotFoundError(f"config.data.path={config.data.path!r}: {error}") from error


def open_data(config: ConfigDict, folder: Path) -> Data:
    """Opens a data set that `build_data` built."""
    builder = _builder(config, folder)
    clips = builder.as_data_source(split="pretrain")
    scenes = [
        Scene(
            id=record["id"].decode(),
            text=record["prompt"].decode(),
            category=record["category"].decode(),
            split=record["split"].decode(),
            first_frame=record["first_frame"],
        )
        for split in builder.info.splits
        if split != "pretrain"
        for record in builder.as_data_source(split=split)
        if record.get("scene_seed", 0) < config.data.scenes_per_prompt
    ]
    # Builders whose clips have other prompts than their scenes list them: reading every clip for
    # its prompt would take an hour at the size of Something-Something-V2.
    texts = [scene.text for scene in scenes] + list(
        (builder.info.metadata or {}).get("prompts", [])
    )
    return Data(clips, tuple(scenes), tuple(dict.fromkeys(texts)))


def _bring(config: ConfigDict) -> None:
    """Brings what a builder reads, as far as it lies in a bucket."""
    for place in (config.data[field] for field in _PLACES):
        if is_address(place):
            here(place)


def _builder(config: ConfigDict, folder: Path):
    builder, options = _options(config)
    return builder(config=options, data_dir=folder, file_format="array_record")


def _options(config: ConfigDict) -> tuple[Any, Any]:
    """The builder's class and the options that the config has for it."""
    name = config.data.name
    known = sorted(path.parent.name for path in (PROJECT_ROOT / "data").glob("*/*_builder.py"))
    if name not in known:
        raise ValueError(f"config.data.name={name!r}: known are {', '.join(known)}")
    module = import_from_checkout(PROJECT_ROOT / "data" / name / f"{name}_dataset_builder.py")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    section = config.data.to_dict()
    places = {field: str(path_of(section[field])) for field in _PLACES if section[field]}
    options = getattr(module, f"{class_name}Config").from_section(
        section | places,
        cascade=config.superres.enabled,
        prompt_sets=PROJECT_ROOT / "data" / "prompts",
    )
    return getattr(module, class_name), options
