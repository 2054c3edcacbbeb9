"""What all hosts of a run must have alike: config, code, packages, and the data that they see."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.config.fields import lookup, plain, touches_result
from vidpref.config.schema import FIELDS, counts_in

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "libtpu")
_CODE = ("vidpref", "configs", "data", "launch")
# Folders, files and addresses may differ from host to host, and so may what each shows.
_OWN = ("place", "watching")
# Of these, what hosts do together at the steps that the field says.
_TOGETHER = (".log_every", ".checkpoint_every", ".checkpoint_minutes", ".keep_last")


def about(configs: Sequence[ConfigDict]) -> dict[str, str]:
    """Returns what should be the same on all hosts, by name.

    Args:
        configs: configs of the run. Sizes of batches and meshes count as well as what changes
            results: hosts with others would wait for each other for ever.
    """
    found = {"the code of vidpref": _code_digits(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    for number, config in enumerate(configs):
        prefix = f"config.{number}" if len(configs) > 1 else "config"
        found |= _fields(config, prefix)
    return found


def _fields(config: ConfigDict, prefix: str) -> dict[str, str]:
    found = {}
    for path, value in _leaves(plain(config)):
        spec = FIELDS.get(path)
        own = spec is not None and spec.touches in _OWN and not path.endswith(_TOGETHER)
        if not own or touches_result(spec, config):
            found[f"{prefix}.{path}"] = json.dumps(value, default=str)
    for path, spec in FIELDS.items():
        value = lookup(config, path)
        if spec.touches == "place" and isinstance(value, str) and counts_in(path, config):
            found[f"what lies at {prefix}.{path}"] = _seen(value)
    return found


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _seen(place: str) -> str:
    """What a host sees at a place; the names in a folder, and not what is in its files."""
    path = Path(place).expanduser()
    if not place or "://" in place or not path.exists():
        return "nothing"
    if path.is_file():
        return f"a file of {path.stat().st_size} bytes"
    names = sorted(entry.name for entry in path.iterdir())
    return f"a folder of {len(names)} entries ({_digits(names)})"


def _code_digits() -> str:
    files = sorted(path for room in _CODE for path in (PROJECT_ROOT / room).rglob("*.py"))
    texts = (f"{path.relative_to(PROJECT_ROOT)}\0{path.read_text('utf-8')}" for path in files)
    return _digits(texts)


def _digits(texts: Sequence[str] | Iterator[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{text}\0".encode())
    return digest.hexdigest()[:12]
