"""The model_config.json of a VideoReward folder: how a reward model sees, and its scale."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vidpref.language.patches import VIDEOREWARD_PIXELS
from vidpref.language.reward_scores import Normalisation

_NAMES = {"VQ": "visual_quality", "MQ": "motion_quality", "TA": "text_alignment"}
_SHORT = {name: short for short, name in _NAMES.items()}
_TOKENS = {"special": False, "last": True}  # model_config.reward_token -> whether it is shared
_OWN = "vidpref"  # section of what VideoAlign's code has fixed


@dataclasses.dataclass(frozen=True)
class VideoRewardSettings:
    """What a reward model was trained with, besides its weights.

    Attributes:
        dimensions: what it scores.
        outputs: of the head.
        base: name or folder of the model that it was made of.
        shared: whether all dimensions are read off one token.
        lora: rank and alpha of its adapters; None for none.
        rate: frames a second that are seen.
        frames: least and most frames that are seen.
        pixels: least and most pixels of a frame.
        positions: see `RewardReader`.
        most_tokens: likewise.
        resizer: see `resize`.
        normalisation: of its scores; None for none.
    """

    dimensions: tuple[str, ...]
    outputs: int
    base: str
    shared: bool = False
    lora: tuple[int, float] | None = None
    rate: float = 2.0
    frames: tuple[int, int] = (4, 768)
    pixels: tuple[int, int] = VIDEOREWARD_PIXELS
    positions: str = "sequential"
    most_tokens: int = 8192
    resizer: str = "float"
    normalisation: Normalisation | None = None

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "VideoRewardSettings":
        """Returns the settings of a file that VideoAlign's code or `write` wrote.

        Args:
            fields: the file's content.

        Raises:
            ValueError: a section or field that is missing, or asks for something else.
        """
        data, model = _section(fields, "data_config"), _section(fields, "model_config")
        own = fields.get(_OWN) or {}
        names = _given(data, "data_config", "eval_dim")
        names = names.split() if isinstance(names, str) else names
        dimensions = tuple(_NAMES.get(name, name) for name in names)
        token = _given(model, "model_config", "reward_token")
        if token not in _TOKENS:
            raise ValueError(
                f"model_config.reward_token={token!r} is not implemented, only "
                f"{' and '.join(map(repr, _TOKENS))}"
            )
        if data.get("num_frames") is not None or data.get("sample_type", "uniform") != "uniform":
            raise ValueError(
                f"data_config: num_frames={data.get('num_frames')!r} and "
                f"sample_type={data.get('sample_type')!r} are not implemented, only frames at a "
                "rate (fps), evenly spaced"
            )
        least, _ = VIDEOREWARD_PIXELS
        most = int(_number(data, "data_config", "max_frame_pixels"))
        found: dict[str, Any] = {
            "dimensions": dimensions,
            "outputs": int(_number(model, "model_config", "output_dim")),
            "base": str(_given(model, "model_config", "model_name_or_path")),
            "shared": _TOKENS[token],
            "lora": _lora(fields),
            "rate": _number(data, "data_config", "fps"),
            "pixels": (own.get("min_frame_pixels", least), most),
            "normalisation": _normalisation(fields, dimensions),
        }
        if "frames" in own:
            found["frames"] = tuple(own["frames"])
        for name in ("positions", "most_tokens", "resizer"):
            if name in own:
                found[name] = own[name]
        return cls(**found)

    def write(self) -> dict[str, Any]:
        """Returns the fields of a file that VideoAlign's code and `read` understand."""
        short = [_SHORT.get(name, name) for name in self.dimensions]
        fields: dict[str, Any] = {
            "data_config": {
                "meta_data": "",
                "data_dir": "",
                "max_frame_pixels": self.pixels[1],
                "num_frames": None,
                "fps": self.rate,
                "eval_dim": short,
                "prompt_template_type": "detailed_special",
                "sample_type": "uniform",
            },
            "training_args": {},
            "model_config": {
                "model_name_or_path": self.base,
                "output_dim": self.outputs,
                "use_special_tokens": not self.shared,
                "reward_token": {shared: name for name, shared in _TOKENS.items()}[self.shared],
            },
            "peft_lora_config": {"lora_enable": self.lora is not None},
            "inference_config": None,
            _OWN: {
                "min_frame_pixels": self.pixels[0],
                "frames": list(self.frames),
                "positions": self.positions,
                "most_tokens": self.most_tokens,
                "resizer": self.resizer,
            },
        }
        if self.lora is not None:
            rank, alpha = self.lora
            fields["peft_lora_config"] |= {
                "lora_r": rank,
                "lora_alpha": alpha,
                "lora_dropout": 0.0,
                "use_rslora": False,
                "lora_namespan_exclude": ["lm_head", "rm_head", "embed_tokens", "visual"],
            }
        if self.normalisation is not None:
            scale = self.normalisation
            numbers = {}
            for name, key in zip(self.dimensions, short, strict=True):
                numbers |= {f"{key}_mean": scale.mean[name], f"{key}_std": scale.std[name]}
            fields["inference_config"] = numbers
            fields[_OWN]["normalised_by"] = scale.of
        return fields


def _lora(fields: Mapping[str, Any]) -> tuple[int, float] | None:
    section = fields.get("peft_lora_config") or {}
    if not section.get("lora_enable", False):
        return None
    rank = int(_number(section, "peft_lora_config", "lora_r"))
    alpha = _number(section, "peft_lora_config", "lora_alpha")
    # rank-stabilised adapters count alpha / sqrt(rank) times, and ours alpha / rank
    return rank, alpha * math.sqrt(rank) if section.get("use_rslora") else alpha


def _normalisation(fields: Mapping[str, Any], dimensions: tuple[str, ...]) -> Normalisation | None:
    section = fields.get("inference_config")
    if not section:
        return None
    of = (fields.get(_OWN) or {}).get("normalised_by") or "the folder's inference_config"
    mean, std = (
        {n: _number(section, "inference_config", f"{_SHORT.get(n, n)}_{what}") for n in dimensions}
        for what in ("mean", "std")
    )
    return Normalisation(mean, std, of)


def _section(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = fields.get(name)
    if not isinstance(section, Mapping):
        raise ValueError(f"it has {name}={section!r}, wanted the section's fields")
    return section


def _given(section: Mapping[str, Any], name: str, field: str) -> Any:
    if section.get(field) is None:
        raise ValueError(f"{name} lacks {field}")
    return section[field]


def _number(section: Mapping[str, Any], name: str, field: str) -> float:
    value = _given(section, name, field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}.{field}={value!r} must be a number")
    return float(value)
