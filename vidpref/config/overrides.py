"""Overrides of a config's fields, as a command line gives them."""

from collections.abc import Iterable, Sequence

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from vidpref.config.fields import condition_text, lookup
from vidpref.config.nearest import nearest
from vidpref.config.schema import DTYPES, FIELDS, check_values, counts_in

DTYPE_SPELLINGS = {"fp32": "float32", "bf16": "bfloat16"}  # as other programs write them


class ConfigError(ValueError):
    """A config name, scale, field or value that cannot be; the message names the nearest ones."""


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Returns a locked copy with `field.path=value` overrides, each of its field's type.

    Raises:
        ConfigError: an unknown field, a value of another type or out of its range, or a field that
            does not count in this config and would be changed in vain; all of them, a line each.
    """
    known, lines = field_paths(config), []
    for override in overrides:
        path, equals, _ = override.partition("=")
        if not equals:
            lines.append(f"--config.{override}: write --config.{path}=VALUE")
        elif path not in known:
            lines.append(f"the config has no field {path!r}; {_nearest_fields(path, config)}")
    _refuse(lines)
    found = _parsed(config, [_as_we_spell_it(override) for override in overrides])
    paths = dict.fromkeys(override.partition("=")[0] for override in overrides)
    _refuse(
        _in_vain(path, found)
        for path in paths
        if not counts_in(path, found) and lookup(found, path) != lookup(config, path)
    )
    try:
        check_values(found)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return found


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits command-line arguments into `--config.x=y` overrides ("x=y") and the rest."""
    prefix = "--config."
    overrides = [a.removeprefix(prefix) for a in argv if a.startswith(prefix)]
    return overrides, [a for a in argv if not a.startswith(prefix)]


def field_paths(config: ConfigDict, prefix: str = "") -> list[str]:
    """Returns every leaf field as a dotted path."""
    paths = []
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            paths += field_paths(value, f"{prefix}{key}.")
        else:
            paths.append(f"{prefix}{key}")
    return paths


def _parsed(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """The overrides read by ml_collections' flags, which know the type of every field."""
    copied = config.copy_and_resolve_references()
    with copied.unlocked():
        for path in [path for path, spec in FIELDS.items() if "None" in spec.kind]:
            if lookup(copied, path) is None:
                section, _, name = path.rpartition(".")
                lookup(copied, section)[name] = config_dict.placeholder(int)
    try:
        return _by_flags(copied, overrides)
    except flags.Error:
        _refuse(filter(None, (_flag_problem(copied, override) for override in overrides)))
        raise


def _by_flags(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    argv = [f"--config.{override}" for override in overrides]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=["vidpref", *argv]
    )
    values(["vidpref", *argv])
    return holder.value


def _flag_problem(config: ConfigDict, override: str) -> str:
    try:
        _by_flags(config.copy_and_resolve_references(), [override])
    except flags.Error as error:
        return str(error)
    return ""


def _as_we_spell_it(override: str) -> str:
    """The override, with the short name of a type written out."""
    path, _, value = override.partition("=")
    if FIELDS.get(path) is None or FIELDS[path].allowed != DTYPES:
        return override
    return f"{path}={DTYPE_SPELLINGS.get(value, value)}"


def _refuse(lines: Iterable[str]) -> None:
    """Raises an error of all lines, if there are any."""
    if text := "\n".join(lines):
        raise ConfigError(text)


def _nearest_fields(path: str, config: ConfigDict) -> str:
    """The nearest fields, those that count in front, each with its meaning."""
    known = field_paths(config)
    here = [name for name in known if counts_in(name, config)]
    hint = nearest(path, here)
    if hint.startswith("known"):
        hint = nearest(path, known)
    if hint.startswith("known"):
        return "--describe shows them all"
    named = [name for name in known if name in hint.replace("?", " ").split()]
    return "\n".join(
        [hint, *(f"  {name}: {FIELDS[name].meaning}" for name in named if name in FIELDS)]
    )


def _in_vain(path: str, config: ConfigDict) -> str:
    spec = FIELDS[path]
    causes = dict.fromkeys(name for every in spec.when for name in every)
    now = ", ".join(f"{name}={lookup(config, name)!r}" for name in causes)
    return (
        f"config.{path} would change nothing: it counts where {condition_text(spec)}; here is {now}"
        f"\n  {path}: {spec.meaning}"
    )
