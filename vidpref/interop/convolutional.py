"""Files of I3D, Inception-V3, MUSIQ and AMT, which FVD, FID and VBench measure with."""

import os
import re
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core import meta

from vidpref.interop.loading import load_onto
from vidpref.interop.safetensors_files import PICKLES, TensorFolder
from vidpref.interop.table import Rule, Table, plan
from vidpref.models.amt import STRIDE, Amt
from vidpref.models.i3d import FEWEST, SIDE, I3d
from vidpref.models.inception import Inception
from vidpref.models.musiq import Musiq
from vidpref.storage.copies import here
from vidpref.typing import PyTree

_PARTS = {
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
# Layers of RAFT's encoder, which AMT has too, by AMT's names.
_RENAMED = {"convnormrelu/conv": "conv1", "output": "conv2", "downsample/conv": "downsample/0"}
_RENAMED |= {f"convnormrelu{n}/conv": f"conv{n}" for n in (1, 2, 3)}
_RENAMED |= {f"layer{i}_{j}": f"layer{i}/{j}" for i in (1, 2, 3) for j in (0, 1)}
_SIDE = 8 * STRIDE  # of a picture that every network can look at
_COUNTED = "num_batches_tracked"
# How the names begin of what is not used: the bias of Inception Score's logits, and the classifier
# on the way, which torchvision's Inception-V3 has.
_UNUSED = {"Inception": ("fc.bias", "AuxLogits."), "I3d": (), "Musiq": (), "Amt": ()}
_CALLED = {
    "Inception": "pytorch-fid's Inception-V3",
    "I3d": "pytorch-i3d",
    "Musiq": "pyiqa's MUSIQ",
    "Amt": "AMT-S",
}


class ConvolutionalFile:
    """Weights of `I3d`, `Inception`, `Musiq` or `Amt` in a safetensors file.

    Attributes:
        module: the network.
        abstract: shapes of its parameters, boxed with their logical names.

    Raises:
        ValueError: no such file, or tensors of another network; no value is read.
    """

    def __init__(self, path: str | os.PathLike, module: I3d | Inception | Musiq | Amt):
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
        self._tensors = TensorFolder(path)
        own = isinstance(module, Musiq)
        self._table = musiq_table() if own else table_of(self.abstract)
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
    """Returns the table of `I3d`, `Inception` or `Amt`, whose layers are called as PyTorch's are.

    Args:
        abstract: shapes of the parameters.
    """
    paths = jax.tree_util.tree_leaves_with_path(meta.unbox(abstract))
    return tuple(_rule(tuple(key.key for key in path), leaf.ndim) for path, leaf in paths)


def musiq_table() -> Table:
    """Returns the table of `Musiq`, by pyiqa's names."""
    encoder = "transformer_encoder."
    block = f"{encoder}transformer.encoderblock_{{i}}."
    layers = {
        "embedding": "embedding",
        "head": "head",
        f"{encoder}encoder_norm": "norm_out",
        f"{block}norm1": "blocks/norm1",
        f"{block}norm2": "blocks/norm2",
        f"{block}mlp.fc1": "blocks/mlp_in",
        f"{block}mlp.fc2": "blocks/mlp_out",
        "gn_root": "patches/root_norm",
        "block1.gn_proj": "patches/projection_norm",
        **{f"block1.gn{n}": f"patches/norm{n}" for n in (1, 2, 3)},
        **{f"{block}attention.{n}": f"blocks/{n}" for n in ("query", "key", "value", "out")},
    }
    convolutions = {
        "conv_root": "patches/root",
        "block1.conv_proj": "patches/projection",
        **{f"block1.conv{n}": f"patches/conv{n}" for n in (1, 2, 3)},
    }
    rules = [
        Rule(f"{encoder}posembed_input.position_emb", "positions", "kept"),
        Rule(f"{encoder}scaleembed_input.scale_emb", "scales", "embedding"),
        Rule(f"{encoder}cls", "whole", "kept"),
        *(Rule(f"{n}.weight", f"{ours}/kernel", "conv") for n, ours in convolutions.items()),
    ]
    for torch, ours in layers.items():
        norm = "norm" in ours
        kind = ("scale", "vector") if norm else ("kernel", "linear")
        rules.append(Rule(f"{torch}.weight", f"{ours}/{kind[0]}", kind[1]))
        rules.append(Rule(f"{torch}.bias", f"{ours}/bias", "vector"))
    return tuple(rules)


def abstract_of(module: nn.Module) -> PyTree:
    """Returns the shapes of a network's parameters, boxed with their logical names."""

    def init(key: jax.Array) -> Any:
        shape = (1, FEWEST, SIDE, SIDE, 3) if isinstance(module, I3d) else (1, _SIDE, _SIDE, 3)
        images = (np.zeros(shape, np.float32),) * (2 if isinstance(module, Amt) else 1)
        return module.init(key, *images)["params"]

    return jax.eval_shape(init, jax.random.key(0))


def _rule(path: tuple[str, ...], ndim: int) -> Rule:
    *layers, last = path
    if layers[0] == "feat_encoder":
        own = "/".join(layers)
        for ours, theirs in _RENAMED.items():
            own = re.sub(rf"/{ours}(?=/|$)", f"/{theirs}", own)
        layers = own.split("/")
    if last == "kernel":
        kind = "linear" if ndim == 2 else "conv"
        return Rule(".".join([*layers, "weight"]), "/".join(path), kind)
    return Rule(".".join([*layers, _PARTS[last]]), "/".join(path), "vector")
