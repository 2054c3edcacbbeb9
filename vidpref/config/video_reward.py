"""Schema of VideoReward, a vision-language model that scores videos: as a judge, and trained."""

import dataclasses

from vidpref.config.fields import ON, PATTERN, field, section
from vidpref.config.training import LORA_BASES, Train

DTYPES = ("float32", "bfloat16")
_FROM_NOTHING = {"judge.scratch.layers": ON}
RENDERED, DRAWN = "rendered", "drawn"  # clips of the world that a judge learns from
_OF_WORLD = {"judge.name": ON, "data.name": "miniworld"}
_OF_RENDERED = {**_OF_WORLD, "judge.world.clips": RENDERED}


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeLora:
    """Adapters of a reward model."""

    rank: int = field(64, ">= 0", "Rank of the adapters; 0: none, only `parts` are trained.")
    alpha: float = field(
        128.0, "> 0", "Adapters count alpha / rank times.", when={"judge.lora.rank": ON}
    )
    dropout: float = field(
        0.0, "in [0, 1)", "Dropout in front of the adapters.", when={"judge.lora.rank": ON}
    )
    targets: tuple[str, ...] = field(
        (r"^model/text/blocks/(query|key|value|out|gate|up|down)/",),
        PATTERN,
        "Regular expressions of the layers that get adapters.",
        when={"judge.lora.rank": ON},
    )
    base: str = field(
        "compute",
        LORA_BASES[:2],
        "How what stands still is kept: in the type that layers compute in, or as stored.",
        touches="speed",
        when={"judge.lora.rank": ON},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeScratch:
    """A small Qwen2-VL with random weights and bytes for tokens, to start from."""

    layers: int = field(0, ">= 0", "Blocks of the decoder; 0: the model of judge.base.")
    width: int = field(
        96, ">= 16", "Width of a token, a multiple of 16 x heads.", when=_FROM_NOTHING
    )
    heads: int = field(2, ">= 1", "Heads of decoder and vision tower.", when=_FROM_NOTHING)
    vision_layers: int = field(2, ">= 1", "Blocks of the vision tower.", when=_FROM_NOTHING)
    vision_width: int = field(
        64, ">= 8", "Width of a patch, a multiple of 4 x heads.", when=_FROM_NOTHING
    )
    patch: int = field(2, ">= 1", "Pixels of a patch's side.", when=_FROM_NOTHING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeWorld:
    """Preferences of the mini world, which the verifier gives."""

    clips: str = field(
        RENDERED,
        (RENDERED, DRAWN),
        "Rendered ones, true or wrong in one way; or those that the run's pre-trained generator "
        "draws to learn from, for validation and for evaluation.",
        when=_OF_WORLD,
    )
    prompts: int = field(0, ">= 0", "Train prompts; 0: all.", when=_OF_RENDERED)
    clips_per_prompt: int = field(
        4, ">= 2", "Clips of a prompt: one true, the others wrong in one way.", when=_OF_RENDERED
    )
    fps: float = field(8.0, "> 0", "Frames a second of its clips.", when=_OF_WORLD)
    tie: float = field(
        0.02, ">= 0", "Scores of the verifier that differ by so much are a tie.", when=_OF_WORLD
    )
    wrong: float = field(
        0.0, "in [0, 1]", "Part of the train verdicts that are turned round.", when=_OF_WORLD
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """A reward model that is trained on preferences (VideoAlign 3.2).

    By launch/train_judge.py alone, or as a stage of a run with reward.name=video_reward and no
    reward.video_reward.folder, whose clips it then labels.
    """

    name: str = field("", ("", "video_reward"), "Model that is trained; '': none.")
    base: str = field(
        "",
        "",
        "Folder of the Qwen-VL model to start from.",
        touches="place",
        when={"judge.name": ON, "judge.scratch.layers": (0,)},
    )
    template: str = field(
        "separate.txt",
        "",
        "Text file of what is asked: a path, or a file of data/reward_templates.",
        touches="place",
        when={"judge.name": ON},
    )
    dimensions: tuple[str, ...] = field(
        ("visual_quality", "motion_quality", "text_alignment"),
        "",
        "Dimensions that are scored.",
        when={"judge.name": ON},
    )
    token: str = field(
        "separate",
        ("separate", "shared"),
        "A token a dimension, or the last token of the row for all.",
        when={"judge.name": ON},
    )
    head: str = field(
        "separate",
        ("separate", "shared"),
        "An output a dimension, or one for all (VideoAlign's checkpoint).",
        when={"judge.name": ON},
    )
    loss: str = field(
        "btt",
        ("bt", "btt", "regression"),
        "Bradley-Terry, that with ties, or squared error to ratings.",
        when={"judge.name": ON},
    )
    theta: float = field(
        5.0, "> 1", "The larger, the more ties.", when={"judge.name": ON, "judge.loss": "btt"}
    )
    masks: str = field(
        "valid",
        ("valid", "official"),
        "Whether labels that say nothing leave the mean, or count as 0 in it (VideoAlign's code).",
        when={"judge.name": ON},
    )
    rating_center: float = field(
        3.0,
        "",
        "Is taken off the ratings.",
        when={"judge.name": ON, "judge.loss": "regression"},
    )
    positions: str = field(
        "sequential",
        ("sequential", "mrope"),
        "Positions count all tokens, or are those in time, height and width.",
        when={"judge.name": ON},
    )
    fps: float = field(
        2.0, "> 0", "Frames a second of a video that are seen.", when={"judge.name": ON}
    )
    min_frames: int = field(
        4,
        ">= 2",
        "Frames that are seen at least, where there are so many.",
        when={"judge.name": ON},
    )
    max_frames: int = field(768, ">= 2", "Frames that are seen at most.", when={"judge.name": ON})
    min_pixels: int = field(
        100_352, ">= 1", "Pixels of a frame at least: smaller ones grow.", when={"judge.name": ON}
    )
    max_pixels: int = field(
        200_704, ">= 1", "Pixels of a frame at most: larger ones shrink.", when={"judge.name": ON}
    )
    most_tokens: int = field(
        4096, ">= 1", "Tokens of a video with its question at most.", when={"judge.name": ON}
    )
    parts: tuple[str, ...] = field(
        (r"^model/vision/",),
        PATTERN,
        "Regular expressions of what is trained whole, besides head and tokens.",
        when={"judge.name": ON},
    )
    remat: str = field(
        "full", "", "What blocks keep for gradients.", touches="speed", when={"judge.name": ON}
    )
    attention: str = field(
        "auto", "", "Implementation of attention.", touches="speed", when={"judge.name": ON}
    )
    score_batch: int = field(
        8,
        ">= 1",
        "Clips that are scored at once, over all devices; filled up to a multiple of these.",
        touches="speed",
        when={"judge.name": ON},
    )
    export_dtype: str = field(
        "bfloat16", DTYPES, "Type of the weights in the folder.", when={"judge.name": ON}
    )
    scratch: JudgeScratch = section(JudgeScratch, when={"judge.name": ON})
    world: JudgeWorld = section(JudgeWorld, when={"judge.name": ON})
    lora: JudgeLora = section(JudgeLora, when={"judge.name": ON})
    train: Train = section(Train, when={"judge.name": ON})
