"""Schema of VideoReward, a vision-language model that scores videos, as a judge."""

import dataclasses

from vidpref.config.fields import field

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoReward:
    """A reward model in the layout of VideoAlign's VideoReward."""

    folder: str = field(
        "",
        "",
        "Folder of the model, with model_config.json; '': the judge that the run trains, as the "
        "section judge says.",
        touches="place",
    )
    template: str = field(
        "",
        "",
        "Text file with the model's template; '': template.txt of its folder.",
        touches="place",
    )
    base: str = field(
        "",
        "",
        "Folder of the Qwen-VL model that it was made of; '': the model's folder says enough.",
        touches="place",
    )
    fps: float = field(
        0.0, ">= 0", "Frames a second of clips of which nobody states it; 0: refuse these."
    )
    overall: str = field(
        "mean", ("mean", "sum"), "Score in 'overall': mean of the dimensions (the paper) or sum."
    )
    normalise: bool = field(True, "", "Whether scores are normalised as the folder says.")
    batch_size: int = field(
        8, ">= 1", "Clips that are scored at once, over the devices of a host.", touches="speed"
    )
    dtype: str = field("bfloat16", DTYPES, "Compute type.")
