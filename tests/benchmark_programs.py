"""Programs of benchmarks/ as modules: they share names of flags, of which absl keeps one set."""

import importlib
from types import ModuleType

from absl import flags


def imported(name: str) -> ModuleType:
    """Imports benchmarks/NAME.py and takes its flags out again, which nothing then may read."""
    module = importlib.import_module(name)
    for flag in flags.FLAGS.get_flags_for_module(name):
        delattr(flags.FLAGS, flag.name)
    return module
