"""What a result depends on: the fields of a config that count and touch results."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from vidpref.config.fields import lookup, plain, touches_result
from vidpref.config.overrides import field_paths
from vidpref.config.schema import FIELDS, OPEN, counts_in


def causes(config: ConfigDict, reads: Sequence[str], without: Sequence[str] = ()) -> dict[str, Any]:
    """Returns {path: plain value} of every field that counts and touches results.

    Args:
        config: the config of a run.
        reads: paths of sections and fields.
        without: paths among them that are left out.

    Raises:
        KeyError: a path that is neither a section nor a field.
    """
    opened = [path for path in field_paths(config) if path.startswith(tuple(OPEN))]
    known = [*FIELDS, *opened]
    for name in (*reads, *without):
        if name not in OPEN and not any(_lies_in(path, name) for path in known):
            raise KeyError(f"the schema has no section or field {name!r}")
    return {
        path: plain(lookup(config, path))
        for path in known
        if any(_lies_in(path, name) for name in reads)
        and not any(_lies_in(path, name) for name in without)
        and counts_in(path, config)
        and (path not in FIELDS or touches_result(FIELDS[path], config))
    }


def _lies_in(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")
