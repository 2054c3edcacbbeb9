"""Configs by name: `dpo_aif:mini` is `configs/dpo_aif.py`, `get_config("mini")`, plus overrides."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from absl import flags
from ml_collections import ConfigDict, config_flags

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEFAULT_SCALE = "paper"


class ConfigError(ValueError):
    """A config name, scale or field that does not exist; the message names the nearest ones."""


def import_from_checkout(path: Path) -> ModuleType:
    """Imports a file of the checkout's `configs/` or `data/` under its dotted path.

    Args:
        path: the file, inside the checkout.

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
    """The names that `--config` takes."""
    return sorted(p.stem for p in (PROJECT_ROOT / "configs").glob("*.py"))


def named_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the locked config of `NAME[:SCALE]` with overrides applied.

    Args:
        spec: e.g. "dpo_aif:mini"; the scale defaults to "paper".
        overrides: e.g. ["align.beta=500", "model.name=dit"]; parsed to the field's type.

    Raises:
        ConfigError: unknown name, scale or field, or a value of the wrong type.
    """
    name, _, scale = spec.partition(":")
    scale = scale or DEFAULT_SCALE
    if name not in config_names():
        raise ConfigError(f"no config named {name!r}; {_nearest(name, config_names())}")
    module = import_from_checkout(PROJECT_ROOT / "configs" / f"{name}.py")
    if scale not in module.SCALES:
        raise ConfigError(f"{name} has no scale {scale!r}; {_nearest(scale, module.SCALES)}")
    config = module.get_config(scale)
    config.name, config.scale = name, scale
    config.lock()
    return apply_overrides(config, overrides)


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config of a finished run, from its `config.yaml`.

    Raises:
        ConfigError: there is none.
    """
    path = workdir / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: is {workdir} the folder of a finished run?")
    return ConfigDict(_with_tuples(yaml.safe_load(path.read_text())))


def config_yaml(config: ConfigDict) -> str:
    """Returns a config as plain YAML, with lists for tuples; `read_config` reads it back."""
    return yaml.safe_dump(_without_tuples(config.to_dict()), sort_keys=False)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _without_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_tuples(part) for name, part in value.items()}
    return list(map(_without_tuples, value)) if isinstance(value, tuple | list) else value


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Returns a copy with `field.path=value` overrides, typed by ml_collections' flags."""
    fields = field_paths(config)
    for override in overrides:
        path, equals, _ = override.partition("=")
        if not equals:
            raise ConfigError(f"--config.{override}: write --config.{path}=VALUE")
        if path not in fields:
            raise ConfigError(f"the config has no field {path!r}; {_nearest(path, fields)}")
    argv = [f"--config.{override}" for override in overrides]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_dict(
        "config",
        config.copy_and_resolve_references(),
        flag_values=values,
        sys_argv=["vidpref", *argv],
    )
    try:
        values(["vidpref", *argv])
    except flags.Error as error:
        raise ConfigError(str(error)) from error
    return holder.value


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits command-line arguments into `--config.x=y` overrides ("x=y") and the rest."""
    prefix = "--config."
    overrides = [a.removeprefix(prefix) for a in argv if a.startswith(prefix)]
    return overrides, [a for a in argv if not a.startswith(prefix)]


def field_paths(config: ConfigDict, prefix: str = "") -> list[str]:
    """Every leaf field as a dotted path."""
    paths = []
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            paths += field_paths(value, f"{prefix}{key}.")
        else:
            paths.append(f"{prefix}{key}")
    return paths


def describe_configs() -> str:
    """The text of `--list`: one line a config with its scales and its paper."""
    lines = []
    for name in config_names():
        module = import_from_checkout(PROJECT_ROOT / "configs" / f"{name}.py")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        lines.append(f"{name}:{{{'|'.join(module.SCALES)}}}  {summary}\n    paper: {module.PAPER}")
    return "\n".join(lines)


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if not close:  # a right field under the wrong section
        last = word.rsplit(".", 1)[-1]
        close = [k for k in known if k.rsplit(".", 1)[-1] == last][:3]
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(known)
