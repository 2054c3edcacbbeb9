"""Files of I3D and Inception-V3: networks whose layers are called as PyTorch's are."""

import os
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import meta

from vidpref.interop.loading import load_onto
from vidpref.interop.safetensors_files import PICKLES, TensorFolder
from vidpref.interop.table import Rule, Table, plan
from vidpref.models.i3d import FEWEST, SIDE, I3d
from vidpref.models.inception import Inception
from vidpref.storage.copies import here
from vidpref.typing import PyTree

_PARTS = {"scale": "weight", "mean": "running_mean", "variance": "running_var", "bias": "bias"}
_COUNTED = "num_batches_tracked"
# How the names begin of what is not used: the bias of Inception Score's logits, and the classifier
# on the way, which torchvision's Inception-V3 has.
_UNUSED = {"Inception": ("fc.bias", "AuxLogits."), "I3d": ()}
_CALLED = {"Inception": "pytorch-fid's Inception-V3", "I3d": "pytorch-i3d"}


class ConvolutionalFile:
    """Weights of `I3d` or `Inception` in a safetensors file.

    Attributes:
        module: the network.
        abstract: shapes of its parameters, boxed with their logical names.

    Raises:
        ValueError: no such file, or tensors of another network; no value is read.
    """

    def __init__(self, path: str | os.PathLike, module: I3d | Inception):
        path, kind = here(path), type(module).__name__
        if path.suffix in PICKLES:
            raise ValueError(
                f"{path}: a pickle, which may run any program when it is read: python "
                f"launch/weights/unpickle.py --file={path} --out={path.with_suffix('.safetensors')}"
            )
        if not path.is_file():
            raise ValueError(f"{path}: no such file of {_CALLED[kind]}'s weights")
        self.module = module
        self.abstract = abstract_of(module)
        self._tensors, self._table = TensorFolder(path), table_of(self.abstract)
        counted = tuple(name for name in self._tensors if name.endswith(_COUNTED))
        self._unused = (*counted, *_UNUSED[kind])
        meant = {n: s for n, s in self._tensors.shapes.items() if not n.startswith(self._unused)}
        try:
            plan(meant, self._table, expected=self.abstract)
        except ValueError as error:
            raise ValueError(f"{path} is not {_CALLED[kind]}: {error}") from error

    def load(self, target: PyTree) -> PyTree:
        """Returns the parameters as `load_onto` places them.

        Args:
            target: `jax.ShapeDtypeStruct`s with shardings.

        Raises:
            ValueError: a damaged file.
        """
        return load_onto(target, self._tensors, self._table, ignore=self._unused)


def table_of(abstract: PyTree) -> Table:
    """Returns the table of a network with these parameters, given as their shapes."""
    paths = jax.tree_util.tree_leaves_with_path(meta.unbox(abstract))
    return tuple(_rule(tuple(key.key for key in path), leaf.ndim) for path, leaf in paths)


def abstract_of(module: nn.Module) -> PyTree:
    """Returns the shapes of a network's parameters, boxed with their logical names."""

    def init(key: jax.Array) -> Any:
        shape = (1, FEWEST, SIDE, SIDE, 3) if isinstance(module, I3d) else (1, 75, 75, 3)
        return module.init(key, np.zeros(shape, np.float32))["params"]

    return jax.eval_shape(init, jax.random.key(0))


def _rule(path: tuple[str, ...], ndim: int) -> Rule:
    *layers, last = path
    if last == "kernel":
        kind = "linear" if ndim == 2 else "conv"
        return Rule(".".join([*layers, "weight"]), "/".join(path), kind)
    return Rule(".".join([*layers, _PARTS[last]]), "/".join(path), "vector")
