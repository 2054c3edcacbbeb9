"""RAFT: which tensor of torchvision is which parameter of `Raft`."""

import os
from collections.abc import Mapping

import jax
import numpy as np
from flax.core import meta

from vidpref.interop.loading import load_onto
from vidpref.interop.safetensors_files import PICKLES, TensorFolder
from vidpref.interop.table import Rule, Table, plan
from vidpref.models.raft.network import SMALLEST, Raft
from vidpref.models.raft.sizes import PUBLISHED
from vidpref.storage.copies import here
from vidpref.typing import PyTree

# The parts of a layer: those of a convolution with its norm have numbers.
_PARTS = {
    "conv/kernel": "0.weight",
    "conv/bias": "0.bias",
    "norm/scale": "1.weight",
    "norm/bias": "1.bias",
    "norm/mean": "1.running_mean",
    "norm/variance": "1.running_var",
    "kernel": "weight",
    "bias": "bias",
}
_LAYERS = {
    "convgru1": "recurrent_block.convgru1",
    "convgru2": "recurrent_block.convgru2",
    "head1": "flow_head.conv1",
    "head2": "flow_head.conv2",
    "mask_hidden": "mask_predictor.convrelu",
    "mask": "mask_predictor.conv",
    "output": "conv",
    **{f"layer{i}_{j}": f"layer{i}.{j}" for i in (1, 2, 3) for j in (0, 1)},
}
_UPDATES = 1  # the parameters do not depend on it
_COUNTED = ".num_batches_tracked"


def raft_table(params: PyTree) -> Table:
    """Returns the table of the network with these parameters, given as their shapes."""
    paths = jax.tree_util.tree_leaves_with_path(meta.unbox(params))
    return tuple(_rule(tuple(key.key for key in path)) for path, _ in paths)


def abstract_raft(module: Raft) -> PyTree:
    """Returns the shapes of a network's parameters, boxed with their logical names."""
    image = np.zeros((1, SMALLEST, SMALLEST, 3), np.float32)

    def init(key: jax.Array) -> PyTree:
        return module.init(key, image, image, _UPDATES)["params"]

    return jax.eval_shape(init, jax.random.key(0))


class RaftFile:
    """Weights of RAFT in a safetensors file, by torchvision's names.

    Attributes:
        module: the network, of the size that the file has.

    Raises:
        ValueError: no such file, or tensors of another network.
    """

    def __init__(self, path: str | os.PathLike):
        path = here(path)
        if path.suffix in PICKLES:
            raise ValueError(
                f"{path}: a pickle, which may run any program when it is read: python "
                f"launch/weights/unpickle.py --file={path} --out={path.with_suffix('.safetensors')}"
            )
        if not path.is_file():
            raise ValueError(f"{path}: no such file of RAFT's weights")
        self._tensors = TensorFolder(path)
        size = _size(self._tensors.shapes)
        self.module = Raft(**PUBLISHED[size])
        self._shapes = abstract_raft(self.module)
        meant = {n: s for n, s in self._tensors.shapes.items() if not n.endswith(_COUNTED)}
        try:
            plan(meant, raft_table(self._shapes), expected=self._shapes)
        except ValueError as error:
            raise ValueError(f"{path} is not RAFT's {size} size of torchvision: {error}") from error

    def load(self, target: PyTree) -> PyTree:
        """Returns the parameters as `load_onto` places them.

        Args:
            target: `jax.ShapeDtypeStruct`s with shardings.

        Raises:
            ValueError: a damaged file.
        """
        counted = tuple(name for name in self._tensors if name.endswith(_COUNTED))
        return load_onto(target, self._tensors, raft_table(self._shapes), ignore=counted)


def _size(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return "large" if any(name.startswith("mask_predictor.") for name in shapes) else "small"


def _rule(path: tuple[str, ...]) -> Rule:
    *layers, last = path
    part = f"{layers.pop()}/{last}" if layers[-1] in ("conv", "norm") else last
    torch = ".".join(_LAYERS.get(layer, layer) for layer in layers)
    return Rule(f"{torch}.{_PARTS[part]}", "/".join(path), "conv" if last == "kernel" else "vector")
