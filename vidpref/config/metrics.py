"""Schema of the rewards that published networks give: CLIP and its fine-tunes, RAFT, aesthetics."""

import dataclasses
from typing import Any

from vidpref.config.fields import field, section

TEXT_IMAGE = ("clip_score", "pick_score", "hps_v2")
METRICS = (*TEXT_IMAGE, "hps_v3", "optical_flow", "aesthetic")
# Fields of the section `Metrics` that are files or folders.
METRIC_PLACES = (
    *(f"{name}.{place}" for name in TEXT_IMAGE for place in ("folder", "tokenizer")),
    *("hps_v3.folder", "hps_v3.template"),
    *("optical_flow.weights", "aesthetic.folder", "aesthetic.head"),
)
DTYPES = ("float32", "bfloat16")


def _eta() -> Any:
    return field(1.0, "> 0", "Slope of the linear transform eta r + gamma (AIF 3.2).")


def _gamma() -> Any:
    return field(0.0, "", "Offset of the linear transform eta r + gamma.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextImage:
    """A CLIP model that says how well a frame goes with the prompt; scores add up over frames."""

    folder: str = field(
        "",
        "",
        "Folder of the model: of transformers, or open_clip_model.safetensors of OpenCLIP.",
        touches="place",
    )
    tokenizer: str = field(
        "", "", "Folder of CLIP's tokenizer; '': the model's folder.", touches="place"
    )
    eta: float = _eta()
    gamma: float = _gamma()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HpsV3:
    """HPSv3, a Qwen2-VL that says how people would like an image; scores add up over frames."""

    folder: str = field(
        "",
        "",
        "Folder of HPSv3.safetensors with config.json and tokenizer of Qwen2-VL-7B-Instruct.",
        touches="place",
    )
    template: str = field(
        "",
        "",
        "Text file of what it is asked, with {text_prompt} and <|Reward|>, as in HPSv3's code.",
        touches="place",
    )
    min_pixels: int = field(200_704, ">= 1", "Pixels of a frame at least: smaller ones grow.")
    max_pixels: int = field(200_704, ">= 1", "Pixels of a frame at most: larger ones shrink.")
    batch_size: int = field(
        8, ">= 1", "Frames that are seen at once, over the devices of a host.", touches="speed"
    )
    dtype: str = field("bfloat16", DTYPES, "Compute type; its head has float32.")
    eta: float = _eta()
    gamma: float = _gamma()


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpticalFlow:
    """RAFT's flow between successive frames; scores add up over pairs of frames."""

    weights: str = field(
        "", "", "Safetensors file of RAFT, small or large, by torchvision's names.", touches="place"
    )
    updates: int = field(12, ">= 1", "How often RAFT improves the flow; VBench's 20.")
    batch_size: int = field(
        8,
        ">= 1",
        "Pairs of frames that are looked at at once, over the devices of a host.",
        touches="speed",
    )
    eta: float = _eta()
    gamma: float = _gamma()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aesthetic:
    """LAION's linear head on CLIP's images, as VBench has it; scores add up over frames."""

    folder: str = field("", "", "Folder of CLIP ViT-L/14, as of clip_score.", touches="place")
    head: str = field("", "", "Safetensors file of the head: weight and bias.", touches="place")
    eta: float = _eta()
    gamma: float = _gamma()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """A judge whose dimensions are metrics; each has a section with its own weights."""

    frames: int = field(
        0, ">= 0", "Frames of a clip that are seen, evenly spaced; 0: all. Flow sees all."
    )
    batch_size: int = field(
        32, ">= 1", "Frames that CLIP sees at once, over the devices of a host.", touches="speed"
    )
    dtype: str = field("float32", DTYPES, "Compute type of CLIP; RAFT has float32.")
    clip_score: TextImage = section(TextImage)
    pick_score: TextImage = section(TextImage)
    hps_v2: TextImage = section(TextImage)
    hps_v3: HpsV3 = section(HpsV3)
    optical_flow: OpticalFlow = section(OpticalFlow)
    aesthetic: Aesthetic = section(Aesthetic)
