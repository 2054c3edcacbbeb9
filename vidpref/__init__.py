"""Preference alignment of text-to-video generators in JAX/Flax.

In Python, as docs/notebook.ipynb shows:

    config = vidpref.load_config("dpo_aif:mini", ["align.beta=500"])
    done = vidpref.run(config, "runs/dpo")      # or, later: vidpref.open_run("runs/dpo")
    done.evaluation                             # a pandas table
    clips = done.draw(["move the red ball right above the white floor"], policy="dpo")
    done.score(clips, ["move the red ball right above the white floor"])

Importing vidpref is quick and brings in no jax; the first of these names does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidpref.generation.adopt import load_config
    from vidpref.runs.finished_run import FinishedRun, open_run, run

__version__ = "0.1.0"
__all__ = ["FinishedRun", "load_config", "open_run", "run"]

_MODULES = {"load_config": "vidpref.generation.adopt"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vidpref' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES.get(name, "vidpref.runs.finished_run")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
