"""Checkpoints of OpenCLIP: their config, and their tensors under the names of transformers."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vidpref.interop.safetensors_files import TensorFolder
from vidpref.models.config_json import read_config

# Written with a model, and nothing that its output depends on: a mask of attention, and numbers
# that OpenAI's files carry.
BESIDE = ("attn_mask", "input_resolution", "context_length", "vocab_size")
_VISION_FIXED = {
    "global_average_pool": False,
    "attentional_pool": False,
    "input_patchnorm": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "final_ln_after_pool": False,
    "pool_type": "tok",
    "output_tokens": False,
}
_TEXT_FIXED = {
    "embed_cls": False,
    "no_causal_mask": False,
    "final_ln_after_pool": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "output_tokens": False,
}
_TOWERS = {"visual.": "vision_model.", "": "text_model."}
_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_FUSED = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
_SINGLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TURNED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}


@dataclasses.dataclass(frozen=True)
class _Vision:
    """`vision_cfg`, with OpenCLIP's defaults."""

    layers: int = 12
    width: int = 768
    head_width: int = 64
    mlp_ratio: float = 4.0
    patch_size: int = 16
    image_size: int = 224


@dataclasses.dataclass(frozen=True)
class _Text:
    """`text_cfg`, with OpenCLIP's defaults."""

    context_length: int = 77
    vocab_size: int = 49408
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0


def as_transformers(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of `CLIPModel` that a `model_cfg` of OpenCLIP says.

    Args:
        model: the field of open_clip_config.json.

    Raises:
        ValueError: a model that is no CLIP of two such transformers.
    """
    known = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    more = [name for name in model if name not in known and model[name]]
    parts = [model.get(name) for name in ("vision_cfg", "text_cfg")]
    if more or "embed_dim" not in model or not all(isinstance(part, Mapping) for part in parts):
        what = f"it has {more[0]!r}" if more else "embed_dim, vision_cfg or text_cfg is missing"
        raise ValueError(f"model_cfg is not that of a CLIP of two transformers: {what}")
    vision = read_config(_Vision, parts[0], fixed=_VISION_FIXED, ignored=("patch_dropout",))
    text = read_config(_Text, parts[1], fixed=_TEXT_FIXED, ignored=("pad_id",))
    act = {"hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu"}
    return {
        "model_type": "clip",
        "projection_dim": model["embed_dim"],
        "text_config": {
            "hidden_size": text.width,
            "intermediate_size": int(text.width * text.mlp_ratio),
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            "eos_token_id": 2,  # the largest of a text: OpenCLIP takes that of the vocabulary
            **act,
        },
        "vision_config": {
            "hidden_size": vision.width,
            "intermediate_size": int(vision.width * vision.mlp_ratio),
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.width // vision.head_width,
            "patch_size": vision.patch_size,
            "image_size": vision.image_size,
            **act,
        },
    }


@dataclasses.dataclass(frozen=True)
class _Part:
    """Where a tensor of transformers lies: rows of a tensor, or all of it turned round."""

    name: str
    rows: slice | None = None
    turned: bool = False


class OpenClipTensors(Mapping[str, np.ndarray]):
    """The tensors of an OpenCLIP checkpoint under the names that `CLIPModel` has for them.

    Queries, keys and values, one tensor there, are three; projections are turned round. Each is
    read when it is asked for. Tensors that it does not know keep their names.

    Args:
        tensors: the checkpoint.

    Attributes:
        shapes: shape of every tensor.
        dtypes: type of every tensor.
    """

    def __init__(self, tensors: TensorFolder):
        self._tensors = tensors
        self._parts: dict[str, _Part] = {}
        for name, shape in tensors.shapes.items():
            self._parts |= _parts_of(name, shape)
        self.shapes = {name: self._shape(part) for name, part in self._parts.items()}
        self.dtypes = {name: tensors.dtypes[part.name] for name, part in self._parts.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.read(name, tuple(slice(None) for _ in self.shapes[name]))

    def __str__(self) -> str:
        return str(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Returns a part of a tensor, as `TensorFolder.read`."""
        part = self._parts[name]
        if part.turned:
            return self._tensors.read(part.name, index[::-1]).T
        if part.rows is not None:
            start, stop, _ = index[0].indices(part.rows.stop - part.rows.start)
            inside = slice(part.rows.start + start, part.rows.start + stop)
            index = (inside, *index[1:])
        return self._tensors.read(part.name, index)

    def _shape(self, part: _Part) -> tuple[int, ...]:
        shape = self._tensors.shapes[part.name]
        if part.turned:
            return shape[::-1]
        return shape if part.rows is None else (part.rows.stop - part.rows.start, *shape[1:])


def _parts_of(name: str, shape: tuple[int, ...]) -> dict[str, _Part]:
    if found := _FUSED.fullmatch(name):
        block, rows = f"{_TOWERS[found[1] or '']}encoder.layers.{found[2]}", shape[0] // 3
        return {
            f"{block}.self_attn.{part}_proj.{found[3]}": _Part(
                name, slice(i * rows, (i + 1) * rows)
            )
            for i, part in enumerate("qkv")
        }
    found = _BLOCK.fullmatch(name)
    if found and found[3] in _NAMES:
        block = f"{_TOWERS[found[1] or '']}encoder.layers.{found[2]}"
        return {f"{block}.{_NAMES[found[3]]}.{found[4]}": _Part(name)}
    if name in _TURNED:
        return {_TURNED[name]: _Part(name, turned=len(shape) == 2)}
    return {_SINGLE.get(name, name): _Part(name)}
