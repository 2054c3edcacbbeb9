"""The config.json of a Qwen-VL model as frozen fields, read in every form and written in one."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vidpref.models.config_json import read_config

# Family of a model -> the class of transformers that loads it.
CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
_TEXT_FIXED = {
    "hidden_act": "silu",
    "use_sliding_window": False,
    "attention_dropout": 0.0,
    "quantization_config": None,
}
_ACTIVATIONS = {"qwen2_vl": "quick_gelu", "qwen2_5_vl": "silu", "qwen3_vl": "gelu_pytorch_tanh"}
# Of Qwen2-VL, whose published files leave out what its class has.
_QWEN2_VISION = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}
_TOWER = ("depth", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size")
_PATCHES = ("in_channels", "patch_size", "temporal_patch_size", "spatial_merge_size")
_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
_PUBLISHED_TOKENS = dict(zip(_TOKENS, (151655, 151656, 151652, 151653), strict=True))


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The decoder.

    Attributes:
        vocab_size: rows of the embedding.
        hidden_size: width of a token.
        intermediate_size: hidden width of the perceptron.
        num_hidden_layers: blocks.
        num_attention_heads: heads of the queries.
        num_key_value_heads: heads of keys and values, each seen by several heads of queries.
        head_dim: features of a head.
        rms_norm_eps: epsilon of the norms.
        rope_theta: base of the rotary waves.
        mrope_section: pairs of features of a head that turn with time, height and width.
        mrope_interleaved: whether those take turns, or stand one axis after the other.
        attention_bias: whether queries, keys and values have a bias.
        qk_norm: whether queries and keys of each head are normed.
        tie_word_embeddings: whether the head is the embedding.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, int, int]
    mrope_interleaved: bool
    attention_bias: bool
    qk_norm: bool
    tie_word_embeddings: bool


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The vision tower; names are those of Qwen2.5-VL and Qwen3-VL.

    Attributes:
        depth: blocks.
        hidden_size: width of a patch.
        intermediate_size: hidden width of the perceptron.
        num_heads: heads of a block.
        out_hidden_size: width of a merged feature, which is the decoder's.
        in_channels: colours.
        patch_size: pixels of a patch's side.
        temporal_patch_size: frames of a patch.
        spatial_merge_size: patches of the side of a square that becomes one feature.
        activation: of the perceptron, "quick_gelu", "gelu_pytorch_tanh", or "silu" (gated).
        norm: "layer" or "rms".
        patch_bias: whether the embedding of patches has a bias.
        window_size: pixels of the side of a window of attention; None for no windows.
        full_blocks: numbers of the blocks that attend to the whole frame; with windows only.
        num_position_embeddings: learned positions, a square; None for none.
        deepstack: numbers of the blocks whose outputs go into the decoder's first blocks.
    """

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    out_hidden_size: int
    in_channels: int = 3
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    activation: str = "quick_gelu"
    norm: str = "layer"
    patch_bias: bool = False
    window_size: int | None = None
    full_blocks: tuple[int, ...] = ()
    num_position_embeddings: int | None = None
    deepstack: tuple[int, ...] = ()

    @property
    def merged(self) -> int:
        """Patches that become one feature."""
        return self.spatial_merge_size**2

    @property
    def window(self) -> int | None:
        """Side of a window in merged features; None for no windows."""
        if self.window_size is None:
            return None
        return self.window_size // (self.patch_size * self.spatial_merge_size)


@dataclasses.dataclass(frozen=True)
class QwenVLConfig:
    """A whole model.

    Attributes:
        family: one of `CLASSES`.
        text: the decoder.
        vision: the vision tower.
        image_token_id: token in whose place a feature of an image stands.
        video_token_id: token in whose place a feature of a video stands.
        vision_start_token_id: token before an image or video.
        vision_end_token_id: token after it.
        tokens_per_second: of a video, positions in time a second (Qwen2.5-VL only, else None).
    """

    family: str
    text: TextConfig
    vision: VisionConfig
    image_token_id: int
    video_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int
    tokens_per_second: float | None = None

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "QwenVLConfig":
        """Returns the config of a config.json, whose text fields may be nested or at the root.

        Sizes of the text have no defaults, as those of transformers are of the 72B models.

        Args:
            fields: the file's content.

        Raises:
            ValueError: another family, a field that is missing, or one that asks for another
                computation.
        """
        family = fields.get("model_type")
        if family not in CLASSES:
            raise ValueError(
                f"model_type={family!r} in config.json is no model that vidpref reads here; known "
                f"are {', '.join(CLASSES)}"
            )
        vision = _vision(family, _section(fields, "vision_config"))
        text = _text(family, fields)
        if vision.out_hidden_size != text.hidden_size:
            raise ValueError(
                f"the vision tower makes features of width {vision.out_hidden_size}, the decoder "
                f"has {text.hidden_size}"
            )
        tokens = {name: fields.get(name, _PUBLISHED_TOKENS[name]) for name in _TOKENS}
        odd = [f"{n}={t!r}" for n, t in tokens.items() if not isinstance(t, int) or t < 0]
        if odd:
            raise ValueError(f"config.json: {', '.join(odd)} must be numbers of tokens")
        rate = None
        if family == "qwen2_5_vl":
            rate = _section(fields, "vision_config").get("tokens_per_second")
            if isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0:
                raise ValueError(
                    f"vision_config.tokens_per_second={rate!r} must be a number above 0"
                )
            rate = float(rate)
        return cls(family, text, vision, **tokens, tokens_per_second=rate)

    def write(self) -> dict[str, Any]:
        """Returns the fields of a config.json that transformers 5 and `read` understand."""
        text, vision = dataclasses.asdict(self.text), dataclasses.asdict(self.vision)
        rope = {
            "rope_type": "default",
            "rope_theta": text.pop("rope_theta"),
            "mrope_section": list(text.pop("mrope_section")),
        }
        interleaved, tied = text.pop("mrope_interleaved"), text.pop("tie_word_embeddings")
        text.pop("qk_norm")
        if self.family == "qwen3_vl":
            rope["mrope_interleaved"] = interleaved
        else:
            text.pop("attention_bias")
            text.pop("head_dim")
        vision["hidden_act"] = vision.pop("activation")
        optional = {
            "window_size": vision.pop("window_size"),
            "fullatt_block_indexes": list(vision.pop("full_blocks")),
            "tokens_per_second": self.tokens_per_second,
        }
        positions = vision.pop("num_position_embeddings")
        deepstack = list(vision.pop("deepstack"))
        vision.pop("norm")
        vision.pop("patch_bias")
        if self.family == "qwen2_vl":
            vision["embed_dim"] = vision.pop("hidden_size")
            vision["hidden_size"] = vision.pop("out_hidden_size")
            vision["mlp_ratio"] = vision.pop("intermediate_size") // vision["embed_dim"]
        elif self.family == "qwen2_5_vl":
            rate = optional["tokens_per_second"]
            vision |= {**optional, "tokens_per_second": int(rate) if rate == int(rate) else rate}
        else:
            vision |= {
                "num_position_embeddings": positions,
                "deepstack_visual_indexes": deepstack,
            }
        return {
            "architectures": [CLASSES[self.family]],
            "model_type": self.family,
            "text_config": {
                "model_type": f"{self.family}_text",
                "hidden_act": "silu",
                **text,
                "rope_parameters": rope,
            },
            "vision_config": {"model_type": f"{self.family}_vision", **vision},
            "tie_word_embeddings": tied,
            **{name: getattr(self, name) for name in _TOKENS},
        }


def _text(family: str, fields: Mapping[str, Any]) -> TextConfig:
    nested = _section(fields, "text_config") if "text_config" in fields else {}
    fields = {**fields, **nested, "tie_word_embeddings": _tied(fields, nested)}
    rope = {**(fields.get("rope_scaling") or {}), **(fields.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise ValueError(f"config.json: rotary positions of type {kind!r} are not implemented")
    layers = fields.get("layer_types") or []
    if set(layers) - {"full_attention"}:
        raise ValueError(f"config.json: layer_types={layers!r}: only full attention is implemented")
    qwen3 = family == "qwen3_vl"
    # what is null in one place may stand in the other
    given = {**rope, **{name: value for name, value in fields.items() if value is not None}}
    fixed = {**_TEXT_FIXED, **({"attention_bias": False} if qwen3 else {})}
    switches = {
        "mrope_interleaved": qwen3,
        "attention_bias": not qwen3,
        "qk_norm": qwen3,
    }
    if qwen3 and given.get("mrope_interleaved", True) is not True:
        raise ValueError("config.json: mrope_interleaved must be true for Qwen3-VL")
    wanted = [f.name for f in dataclasses.fields(TextConfig) if f.name not in switches]
    if not qwen3:
        wanted.remove("head_dim")
    meant = {name: given[name] for name in wanted if given.get(name) is not None}
    lacking = [name for name in wanted if name not in meant]
    if lacking:
        raise ValueError(f"config.json lacks {', '.join(lacking)} of the text model")
    if not qwen3:
        heads, width = meant["num_attention_heads"], meant["hidden_size"]
        if not isinstance(heads, int) or not isinstance(width, int) or heads < 1 or width % heads:
            raise ValueError(
                f"config.json: num_attention_heads={heads!r} must divide hidden_size={width!r}"
            )
        switches["head_dim"] = width // heads
    meant |= {name: given[name] for name in fixed if name in given}
    text = read_config(TextConfig, meant, fixed=fixed, **switches)
    if text.num_attention_heads % text.num_key_value_heads:
        raise ValueError(
            f"config.json: num_key_value_heads={text.num_key_value_heads} must divide "
            f"num_attention_heads={text.num_attention_heads}"
        )
    if 2 * sum(text.mrope_section) != text.head_dim:
        raise ValueError(
            f"config.json: mrope_section={list(text.mrope_section)} must add up to half of the "
            f"{text.head_dim} features of a head"
        )
    return text


def _vision(family: str, fields: Mapping[str, Any]) -> VisionConfig:
    act = fields.get("hidden_act", _ACTIVATIONS[family])
    if act != _ACTIVATIONS[family]:
        raise ValueError(
            f"vision_config.hidden_act={act!r} is not implemented, only {_ACTIVATIONS[family]!r}"
        )
    fields = dict(fields)
    for old, new in (("in_chans", "in_channels"), ("spatial_patch_size", "patch_size")):
        if old in fields:
            fields.setdefault(new, fields[old])
    if family == "qwen2_vl":
        fields = {**_QWEN2_VISION, **fields}
        fields["out_hidden_size"] = fields.get("hidden_size")
        fields["hidden_size"] = fields["embed_dim"]
        fields["intermediate_size"] = _whole(fields, "embed_dim") * _whole(fields, "mlp_ratio")
    switches: dict[str, Any] = {"activation": act}
    if family == "qwen2_5_vl":
        switches |= {
            "norm": "rms",
            "window_size": _whole(fields, "window_size"),
            "full_blocks": _blocks(fields, "fullatt_block_indexes"),
        }
    if family == "qwen3_vl":
        fields.setdefault("patch_size", 16)
        positions = _whole(fields, "num_position_embeddings")
        if math.isqrt(positions) ** 2 != positions:
            raise ValueError(f"vision_config.num_position_embeddings={positions} must be a square")
        switches |= {
            "patch_bias": True,
            "num_position_embeddings": positions,
            "deepstack": _blocks(fields, "deepstack_visual_indexes"),
        }
    lacking = [name for name in _TOWER if fields.get(name) is None]
    if lacking:
        raise ValueError(f"config.json lacks {', '.join(lacking)} of vision_config")
    meant = {name: fields[name] for name in (*_TOWER, *_PATCHES) if name in fields}
    vision = read_config(VisionConfig, meant, fixed={}, **switches)
    if vision.hidden_size % (4 * vision.num_heads):
        raise ValueError(
            f"vision_config: heads of {vision.hidden_size} / {vision.num_heads} features cannot "
            "turn with height and width"
        )
    if vision.window_size is not None and not vision.window:
        raise ValueError(f"vision_config.window_size={vision.window_size} holds no feature")
    return vision


def _section(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = fields.get(name)
    if not isinstance(section, Mapping):
        raise ValueError(f"config.json has {name}={section!r}, wanted its fields")
    return section


def _tied(fields: Mapping[str, Any], nested: Mapping[str, Any]) -> bool:
    found = [part.get("tie_word_embeddings", False) for part in (fields, nested)]
    if any(not isinstance(tied, bool) for tied in found):
        raise ValueError(f"config.json: tie_word_embeddings={found!r} must be true or false")
    return any(found)


def _whole(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"vision_config.{name}={value!r} must be a whole number above 0")
    return value


def _blocks(fields: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value, depth = fields.get(name), _whole(fields, "depth")
    fits = isinstance(value, list | tuple) and all(
        isinstance(i, int) and not isinstance(i, bool) and 0 <= i < depth for i in value
    )
    if not fits:
        raise ValueError(f"vision_config.{name}={value!r} must list blocks from 0 to {depth - 1}")
    return tuple(value)
