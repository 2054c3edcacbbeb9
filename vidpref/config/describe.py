"""What `--list`, `--describe` and `--show` print; none of it needs jax."""

import textwrap
from collections.abc import Iterator

from ml_collections import ConfigDict

from vidpref.config.by_name import config_module, config_names
from vidpref.config.fields import Field, condition_text, lookup, plain
from vidpref.config.nearest import nearest
from vidpref.config.overrides import ConfigError, field_paths
from vidpref.config.schema import FIELDS, OPEN, counts_in

_WIDTH = 100
_EVERYTHING = "all"


def list_configs() -> str:
    """Returns one line a config with its scales, and its paper."""
    lines = []
    for name in config_names():
        module = config_module(name)
        summary = (module.__doc__ or "").strip().splitlines()[0]
        lines.append(f"{name}:{{{'|'.join(module.SCALES)}}}  {summary}\n    paper: {module.PAPER}")
    return "\n".join(lines)


def show_config(config: ConfigDict) -> str:
    """Returns `path = value   # meaning` of every field that counts, by section."""
    blocks: dict[str, list[tuple[str, str]]] = {}
    opened = [path for path in field_paths(config) if path.startswith(tuple(OPEN))]
    for path in [*FIELDS, *opened]:
        if counts_in(path, config):
            row = f"{path} = {_value(lookup(config, path))}", _meaning(path)
            blocks.setdefault(path.rpartition(".")[0], []).append(row)
    width = min(44, max(len(left) for rows in blocks.values() for left, _ in rows))
    return "\n\n".join(
        "\n".join(f"{left:<{width}}   # {meaning}" for left, meaning in rows)
        for rows in blocks.values()
    )


def describe_config(config: ConfigDict, section: str = _EVERYTHING) -> str:
    """Returns every field of a section, with its meaning, default, range and effect.

    Args:
        config: the config whose values are shown; fields that do not count in it are there too.
        section: path of a section or of a field, such as "align.lora"; "all" is the whole config.

    Raises:
        ConfigError: no such section or field.
    """
    paths = [path for path in FIELDS if section in (_EVERYTHING, "", path) or _in(path, section)]
    opened = [path for path in OPEN if section in (_EVERYTHING, "") or _in(path, section, True)]
    if not paths and not opened:
        known = [*sorted({path.rpartition(".")[0] for path in FIELDS} - {""}), *FIELDS]
        raise ConfigError(f"--describe={section}: no such section; {nearest(section, known)}")
    lines = [line for path in paths for line in _described(path, FIELDS[path], config)]
    for path in opened:
        lines += [f"{path}.*", f"    {OPEN[path]}"]
    return "\n".join(lines)


def _described(path: str, spec: Field, config: ConfigDict) -> Iterator[str]:
    value = lookup(config, path)
    yield f"{path} = {_value(value)}"
    facts = [spec.kind, spec.range, spec.effect]
    if plain(value) != plain(spec.default):
        facts.insert(0, f"default {_value(spec.default)}")
    if spec.when:
        here = "" if counts_in(path, config) else " (not here)"
        facts.append(f"counts where {condition_text(spec)}{here}")
    for text in (spec.meaning, "; ".join(fact for fact in facts if fact)):
        yield from textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def _in(path: str, section: str, itself: bool = False) -> bool:
    return path.startswith(f"{section}.") or (itself and path == section)


def _meaning(path: str) -> str:
    return FIELDS[path].meaning if path in FIELDS else OPEN[path.rpartition(".")[0]]


def _value(value: object) -> str:
    return repr(value) if value != "" else '""'
