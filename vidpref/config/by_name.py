"""Configs by name: `dpo_aif:mini` is `configs/dpo_aif.py`, `get_config("mini")`, plus overrides."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from ml_collections import ConfigDict

from vidpref.config.fields import plain
from vidpref.config.nearest import nearest
from vidpref.config.overrides import ConfigError, apply_overrides, field_paths
from vidpref.config.schema import FIELDS, OPEN, new_config

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEFAULT_SCALE = "paper"


def import_from_checkout(path: Path) -> ModuleType:
    """Imports a file of the checkout's `configs/` or `data/` under its dotted path.

    Args:
        path: a file inside the checkout.

    Raises:
        ConfigError: the file does not exist.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; vidpref runs from its checkout")
    if str(PROJECT_ROOT) not in sys.path:
        sys.path.insert(0, str(PROJECT_ROOT))
    name = ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)
    return importlib.import_module(name)


def config_names() -> list[str]:
    """Returns the names that `--config` takes."""
    return sorted(p.stem for p in (PROJECT_ROOT / "configs").glob("*.py"))


def judge_names() -> list[str]:
    """Returns the names that `--config` of launch/train_judge.py takes."""
    return sorted(p.stem for p in (PROJECT_ROOT / "configs" / "judges").glob("*.py"))


def config_module(name: str) -> ModuleType:
    """Returns the file of a config: `get_config(scale)`, `SCALES` and `PAPER`.

    Raises:
        ConfigError: there is none of this name.
    """
    if name in judge_names():
        return import_from_checkout(PROJECT_ROOT / "configs" / "judges" / f"{name}.py")
    if name not in config_names():
        raise ConfigError(f"no config named {name!r}; {nearest(name, config_names())}")
    return import_from_checkout(PROJECT_ROOT / "configs" / f"{name}.py")


def named_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the locked config of `NAME[:SCALE[@CARD]]` with overrides applied.

    Args:
        spec: e.g. "dpo_aif:mini"; the scale defaults to "paper". "flow_dpo:wan2_1_1_3b@24gb" is
            laid out for one GPU of 24 GB, by `configs/shared/one_gpu.py`.
        overrides: e.g. ["align.beta=500", "model.name=dit"]; parsed to the field's type.

    Raises:
        ConfigError: unknown name, scale or field, or a value that cannot be.
    """
    name, _, scale = spec.partition(":")
    scale, _, card = scale.partition("@")
    scale = scale or DEFAULT_SCALE
    module = config_module(name)
    if scale not in module.SCALES:
        raise ConfigError(f"{name} has no scale {scale!r}; {nearest(scale, module.SCALES)}")
    config = module.get_config(scale)
    config.name, config.scale = name, scale
    if card:
        one_gpu = import_from_checkout(PROJECT_ROOT / "configs" / "shared" / "one_gpu.py")
        one_gpu.use(config, card)
        config.scale = f"{scale}@{card}"
    config.lock()
    return apply_overrides(config, overrides)


def read_config(workdir: Path) -> ConfigDict:
    """Returns the locked config that a run wrote to its work directory.

    Raises:
        ConfigError: there is none, or one of another version of vidpref.
    """
    path = workdir / "config.yaml"
    if not path.exists():
        raise ConfigError(
            f"{workdir} holds no config.yaml: run launch/tpu_run.py to its end there first"
        )
    config = new_config()
    try:
        config.update(_with_tuples(yaml.safe_load(path.read_text())))
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path} is damaged, or of another version of vidpref: {error}"
        ) from error
    strange = [name for name in field_paths(config) if name not in FIELDS]
    strange = [name for name in strange if not name.startswith(tuple(OPEN))]
    if strange:
        raise ConfigError(f"{path} is of another version of vidpref: it has {strange[0]}")
    return config.lock()


def config_yaml(config: ConfigDict) -> str:
    """Returns a config as plain YAML, with lists for tuples; `read_config` reads it back."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
