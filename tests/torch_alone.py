"""Runs an exported program as if torch were the only package that is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

PROGRAM = "vidpref_generator.py"

_ALONE = """
import runpy, sys, warnings
warnings.filterwarnings("ignore")  # torch warns that there is no NumPy
for name in ("jax", "jaxlib", "flax", "vidpref", "numpy", "safetensors", "PIL", "transformers"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def import_program(folder: Path) -> ModuleType:
    """Returns the program of an exported folder as a module."""
    spec = importlib.util.spec_from_file_location("vidpref_generator", folder / PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_torch_alone(folder: Path, *argv: str) -> subprocess.CompletedProcess:
    """Runs the program of an exported folder, in that folder."""
    program = [sys.executable, "-c", _ALONE, PROGRAM]
    return subprocess.run([*program, *argv], cwd=folder, capture_output=True, text=True)


def draw_with_torch_alone(folder: Path, *argv: str, noise: np.ndarray) -> np.ndarray:
    """Returns the clip [t, h, w, 3] that the program draws from noise [1, c, t, h, w]."""
    np.save(folder / "noise.npy", noise)
    flags = ["--init_noise=noise.npy", "--out=clip.npy", "--device=cpu"]
    done = run_torch_alone(folder, *argv, *flags)
    assert done.stdout == "clip.npy\n", done.stderr
    return np.load(folder / "clip.npy")
