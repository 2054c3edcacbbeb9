"""Where the weights of a LoRA lie, and what is written beside them."""

from pathlib import Path
from typing import Any

import numpy as np

from vidpref.interop.json_fields import read_fields
from vidpref.interop.safetensors_files import PICKLES, open_safetensors
from vidpref.json_text import parse_json
from vidpref.storage.copies import bring_named

FILE = "pytorch_lora_weights.safetensors"  # of diffusers
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
METADATA = "lora_adapter_metadata"  # where diffusers keeps the fields of PEFT's LoraConfig
PREFIX = "transformer."
# Files that lie beside a LoRA and hold none, as diffusers passes over them.
_BESIDE = ("scheduler", "optimizer", "checkpoint")
_FLOATS = ("F64", "F32", "F16", "BF16")


def lora_file(path: Path) -> Path:
    """Returns the file itself, or the one of a folder that holds the weights.

    That is the file of diffusers or of PEFT by its name, else the only safetensors file.

    Raises:
        ValueError: no such path, a folder without one, or with several; it says what there is.
    """
    path = path.expanduser()
    if path.is_file():
        if path.name.endswith(PICKLES):
            raise ValueError(_pickle(path, path.name))
        return path
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder of LoRA weights")
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    holds = (
        f"it holds {', '.join(names[:20])}{', ...' if names[20:] else ''}"
        if names
        else ("it is empty")
    )
    if "model_index.json" in names:
        raise ValueError(f"{path} is a whole pipeline and no LoRA: give it as --model")
    weights = [n for n in names if n.endswith(".safetensors") and (path / n).is_file()]
    for name in (FILE, PEFT_FILE):
        if name in weights:
            return path / name
    weights = [n for n in weights if not any(word in n for word in _BESIDE)]
    if len(weights) == 1:
        return path / weights[0]
    if weights:
        raise ValueError(
            f"{path} holds several safetensors files: {', '.join(weights)}. Name the one that is "
            f"meant, such as {path / weights[0]}"
        )
    below = sorted(str(p.parent.relative_to(path)) for p in path.glob("*/*.safetensors"))
    if below:
        raise ValueError(
            f"{path} has no safetensors file, its folders have: {', '.join(dict.fromkeys(below))}. "
            f"Name the one that is meant, such as {path / below[0]}"
        )
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        raise ValueError(_pickle(path, pickles[0]))
    raise ValueError(f"{path} has no safetensors file; {holds}")


def lora_files(path: Path) -> dict[str, Path]:
    """Returns all files that say what a LoRA is: its weights, and PEFT's config beside them.

    Raises:
        ValueError: see `lora_file`.
    """
    weights = lora_file(path)
    config = weights.with_name(PEFT_CONFIG)
    bring_named([config])
    if weights.name == PEFT_FILE and config.exists():
        return {"lora": weights, "config": config}
    return {"lora": weights}


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the tensors of a file, and the fields of its LoraConfig as far as there are any.

    These stand in the metadata of a file of diffusers and in `adapter_config.json` of PEFT's.

    Raises:
        ValueError: a damaged file, or tensors that are no floats.
    """
    with open_safetensors(path) as file:
        names = list(file.keys())
        types = {name: file.get_slice(name).get_dtype() for name in names}
        odd = [f"{name} {kind}" for name, kind in types.items() if kind not in _FLOATS]
        if odd:
            raise ValueError(f"{path}: {odd[0]}: only {', '.join(_FLOATS)} are read")
        tensors = {name: file.get_tensor(name) for name in names}
        text = (file.metadata() or {}).get(METADATA, "{}")
    config = parse_json(text, f"{path}, {METADATA}")
    if not isinstance(config, dict):
        raise ValueError(f"{path}: its {METADATA} holds no fields of a LoraConfig")
    # those of a text encoder have its name in front
    config = {
        field.removeprefix(PREFIX): value
        for field, value in config.items()
        if field.startswith(PREFIX) or "." not in field
    }
    beside = lora_files(path).get("config")
    if not config and beside is not None:
        config = read_fields(beside)
    return tensors, config


def _pickle(path: Path, name: str) -> str:
    return (
        f"{path} holds its weights as pickle ({name}), which may run any program when it is read; "
        "save them as safetensors where the file is trusted"
    )
