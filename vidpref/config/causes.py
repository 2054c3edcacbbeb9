"""What results depend on: the fields of a config that count and touch results."""

import functools
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from vidpref.config.fields import lookup, plain, touches_result
from vidpref.config.overrides import field_paths
from vidpref.config.schema import FIELDS, OPEN, counts_in


class Causes:
    """The fields of a config that count and touch results, to be asked for by path.

    Args:
        config: the config of a run; later changes of it are not seen.
    """

    def __init__(self, config: ConfigDict):
        opened = [p for name in OPEN for p in field_paths(lookup(config, name), f"{name}.")]
        self._known = [*FIELDS, *opened]
        self._values = {
            path: plain(lookup(config, path))
            for path in self._known
            if path not in FIELDS
            or (counts_in(path, config) and touches_result(FIELDS[path], config))
        }

    def of(self, *reads: str, without: Sequence[str] = ()) -> dict[str, Any]:
        """Returns {path: plain value} of what lies in sections and fields.

        Args:
            *reads: paths of sections and fields.
            without: paths among them that are left out.

        Raises:
            KeyError: a path that is neither a section nor a field.
        """
        for name in (*reads, *without):
            if name not in OPEN and not any(name in _around(path) for path in self._known):
                raise KeyError(f"the schema has no section or field {name!r}")
        return {
            path: value
            for path, value in self._values.items()
            if not _around(path).isdisjoint(reads) and _around(path).isdisjoint(without)
        }


@functools.cache
def _around(path: str) -> frozenset[str]:
    """The path of a field, and of the sections that it lies in."""
    return frozenset(path[:end] for end, sign in enumerate(f"{path}.") if sign == ".")
