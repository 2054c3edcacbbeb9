"""Folders of transformers' vision transformers: VideoMAE for clips, ViT (as DINO's) for images."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import PIL.Image

from vidpref.interop.image_processor import ImageProcessor, read_processor
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.safetensors_files import TensorFolder
from vidpref.interop.table import Rule, Table, plan
from vidpref.models.videomae import VideoMae
from vidpref.models.vit import Vit
from vidpref.storage.copies import here
from vidpref.typing import PyTree

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_LAYERS = {
    "layernorm_before": "blocks/norm1",
    "layernorm_after": "blocks/norm2",
    "attention.output.dense": "blocks/out",
    "intermediate.dense": "blocks/mlp_in",
    "output.dense": "blocks/mlp_out",
}
_QKV = ("query", "key", "value")
_ATTENTION = "encoder.layer.{i}.attention.attention."
_NORMS = {"fc_norm": "mean", "layernorm": "tokens"}  # of a file, and what `VideoMae` calls them


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A kind of encoder.

    Attributes:
        name: what it is called.
        module: (config, names of the tensors) -> the network.
        table: (network, prefix of names) -> which tensor is which parameter.
        unused: how the names begin, behind the prefix, of what the network does not have.
        example: network -> an input.
    """

    name: str
    module: Callable[..., nn.Module]
    table: Callable[[Any, str], Table]
    unused: tuple[str, ...]
    example: Callable[[Any], np.ndarray]


class EncoderFolder:
    """An encoder in a folder of transformers, of any model that has it.

    Attributes:
        path: the folder.
        module: the network.
        abstract: shapes of its parameters, boxed with their logical names.

    Raises:
        ValueError: no such folder, one of another model, or weights that are not those of the
            config; no value is read.
    """

    def __init__(self, path: str | os.PathLike, encoder: Encoder, dtype: str = "float32"):
        self.path, self._encoder = here(path), encoder
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: no such folder of a {encoder.name} model")
        self._tensors = TensorFolder(self.path)
        names = tuple(self._tensors)
        try:
            self.module = encoder.module(component_config(self.path), names, dtype=dtype)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        self.abstract = jax.eval_shape(
            lambda key: self.module.init(key, encoder.example(self.module))["params"],
            jax.random.key(0),
        )
        self._table = encoder.table(self.module, _prefix(names))
        meant = {n: s for n, s in self._tensors.shapes.items() if not n.startswith(self._unused)}
        try:
            plan(meant, self._table, expected=self.abstract)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def load(self, target: PyTree) -> PyTree:
        """Returns the parameters as `load_onto` places them.

        Args:
            target: `jax.ShapeDtypeStruct`s with shardings.

        Raises:
            ValueError: damaged weights.
        """
        return load_onto(target, self._tensors, self._table, ignore=self._unused)

    def processor(self) -> ImageProcessor:
        """Returns the image processor; one of the folder's size with ImageNet's colours if none.

        Raises:
            ValueError: see `read_processor`.
        """
        bilinear = int(PIL.Image.Resampling.BILINEAR)
        own = ImageProcessor(self.module.image_size, resample=bilinear, **IMAGENET)
        return read_processor(self.path, own, self._encoder.name)

    @property
    def _unused(self) -> tuple[str, ...]:
        own = (_prefix(self._tensors) + name for name in self._encoder.unused)
        return ("classifier.", "decoder.", "encoder_to_decoder.", "mask_token", *own)


def videomae_table(module: VideoMae, prefix: str) -> Table:
    """Returns the table of `VideoMae`, by the names of published files.

    Args:
        module: the network, whose last norm counts.
        prefix: of the names of the encoder, "videomae." or "".
    """
    attention = prefix + _ATTENTION
    rules = [
        *_blocks(prefix),
        Rule(f"{attention}q_bias", "blocks/query/bias", "vector"),
        Rule(f"{attention}v_bias", "blocks/value/bias", "vector"),
    ]
    for torch, kind in _NORMS.items():
        if module.norm == kind:
            name = torch if kind == "mean" else prefix + torch
            rules += _layers("", {name: "norm_out"})
    return tuple(rules)


def vit_table(module: Vit, prefix: str) -> Table:
    """Returns the table of `Vit`, by the names of published files.

    Args:
        module: the network.
        prefix: of the names of the encoder, "vit." or "".
    """
    embeddings = f"{prefix}embeddings."
    return (
        Rule(f"{embeddings}cls_token", "whole", "kept"),
        Rule(f"{embeddings}position_embeddings", "positions", "kept"),
        *_blocks(prefix),
        *(Rule(f"{prefix}{_ATTENTION}{n}.bias", f"blocks/{n}/bias", "vector") for n in _QKV),
        *_layers(prefix, {"layernorm": "norm_out"}),
    )


def _videomae(config: Mapping[str, Any], names: Iterable[str], **options: Any) -> VideoMae:
    """The network, with the last norm that the file has."""
    found = {name.removeprefix(_prefix(names)).partition(".")[0] for name in names}
    norm = next((kind for torch, kind in _NORMS.items() if torch in found), "none")
    return VideoMae.from_config(config, norm=norm, **options)


def _vit(config: Mapping[str, Any], names: Iterable[str], **options: Any) -> Vit:
    return Vit.from_config(config, **options)


def _blocks(prefix: str) -> list[Rule]:
    """The rules of patches and blocks, but for the biases of queries, keys and values."""
    torch = f"{prefix}embeddings.patch_embeddings.projection"
    attention = prefix + _ATTENTION
    return [
        Rule(f"{torch}.weight", "patches/kernel", "conv"),
        Rule(f"{torch}.bias", "patches/bias", "vector"),
        *_layers(f"{prefix}encoder.layer.{{i}}.", _LAYERS),
        *(Rule(f"{attention}{n}.weight", f"blocks/{n}/kernel", "linear") for n in _QKV),
    ]


def _layers(prefix: str, names: Mapping[str, str]) -> list[Rule]:
    """The rules of norms and linear layers, each with a bias."""
    rules = []
    for torch, ours in names.items():
        weight = ("scale", "vector") if "norm" in torch else ("kernel", "linear")
        rules.append(Rule(f"{prefix}{torch}.weight", f"{ours}/{weight[0]}", weight[1]))
        rules.append(Rule(f"{prefix}{torch}.bias", f"{ours}/bias", "vector"))
    return rules


def _prefix(names: Iterable[str]) -> str:
    found = {name.partition(".")[0] for name in names}
    return next((f"{name}." for name in ("videomae", "vit") if name in found), "")


def _clip(module: VideoMae) -> np.ndarray:
    side = module.image_size
    return np.zeros((1, module.num_frames, side, side, 3), np.float32)


VIDEOMAE = Encoder(
    "VideoMAE", _videomae, videomae_table, ("embeddings.position_embeddings",), _clip
)


def _image(module: Vit) -> np.ndarray:
    return np.zeros((1, module.image_size, module.image_size, 3), np.float32)


DINO = Encoder("ViT", _vit, vit_table, ("pooler.", "embeddings.mask_token"), _image)
