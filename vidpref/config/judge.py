"""Schema of a judge that is trained: one that scores, or one that answers in words."""

import dataclasses

from vidpref.config.fields import ON, PATTERN, field, section
from vidpref.config.training import LORA_BASES, Train
from vidpref.config.video_reward import DTYPES
from vidpref.config.vlm_judge import REASONED, WORDS

SCORES, ANSWERS = "video_reward", "vlm_judge"  # what is trained, named as the reward that asks it
RENDERED, DRAWN = "rendered", "drawn"  # clips of the world that a judge learns from
_ANY = {"judge.name": ON}
_SCORES = {"judge.name": SCORES}
_ANSWERS = {"judge.name": ANSWERS}
_REASONED = {**_ANSWERS, "reward.vlm_judge.answers": REASONED}
_ON = {".enabled": ON}
_DRAWS = ({"judge.reasoning.enabled": ON}, {"judge.hierarchy.enabled": ON})
_FROM_NOTHING = {"judge.scratch.layers": ON}
_OF_WORLD = {"judge.name": ON, "data.name": "miniworld"}
_OF_RENDERED = {**_OF_WORLD, "judge.world.clips": RENDERED}


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
class Critic:
    """What a model that answers in words learns to say; how it is asked is reward.vlm_judge.

    `reasons` are the settings of a training of its own: a judge that ranks pairs, and is to give
    reasons, learns to see in words alone by judge.train first, and then to give reasons. Half of
    the rows are then pairs of clips that have the same reason and of which one is better, and the
    others what else it is to say, each kind as often.
    """

    grades: tuple[float, float] = field(
        (7 / 3, 11 / 3),
        "",
        "A rating below the first is Poor, above the second Good, else Normal; of accept, a rating "
        "above their mean is Accept.",
    )
    thirds: bool = field(
        False,
        "",
        "Whether Poor, Normal and Good are a third of the train ratings of a dimension each, where "
        "they lie so close together that `grades` would give them all one word.",
    )
    instruct: bool = field(
        True,
        "",
        "Whether it is first tuned to say what the records say; else it draws answers as it is.",
        when=_DRAWS,
    )
    together: bool = field(
        False,
        "",
        "Whether all grades of a clip are asked for in one conversation, in an order by chance: "
        "the clip is read once for all of them.",
        when={".ranking": (0.0,)},
    )
    ranking: float = field(
        0.0,
        ">= 0",
        "Weight of Bradley-Terry with ties (judge.theta) on the grades of two clips that were "
        "compared, which are then learnt side by side, all of a clip in one conversation; 0: none. "
        "They are words alone, whatever it is to say: see `reasons`. "
        "Grades of clips that are in no pair are learnt alone.",
    )
    reasons: Train = section(
        Train,
        when={
            **_ANSWERS,
            "reward.vlm_judge.answers": (WORDS, REASONED),
            "judge.critic.ranking": ON,
        },
    )
    pairs: float = field(
        1.0,
        ">= 0",
        "Answers which of two clips is better that are learnt for each grade, drawn by chance of "
        "all (IPO's second format); 0: none.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnAnswers:
    """GRPO on answers that the judge draws (McSc 3 and 4)."""

    enabled: bool = field(
        False, "", "Whether it is trained so, after what comes before.", when=_REASONED
    )
    group: int = field(8, ">= 2", "Answers to a question.", when=_ON)
    temperature: float = field(1.0, "> 0", "Of drawing.", when=_ON)
    gather: bool = field(
        True,
        "",
        "Whether each device holds all weights while it draws, but for the parts over tensor; "
        "else the parts over fsdp are gathered again for every token.",
        touches="speed",
        when=_ON,
    )
    clip: float = field(0.2, "in (0, 1]", "Ratios count from 1 - clip to 1 + clip.", when=_ON)
    kl: float = field(
        0.07, ">= 0", "Weight of the divergence from the model at the start; 0: none.", when=_ON
    )
    train: Train = section(Train, when=_ON)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reasoning(OwnAnswers):
    """Self-critic dimensional reasoning (McSc 4.1): of one clip, a dimension a question.

    An answer is worth one for its form, one for the right word, and one where the model itself,
    asked next, says that its reasoning supports the word.
    """

    self_critic: bool = field(
        True, "", "Whether its own verdict on its reasoning counts (McSc eq. 3).", when=_ON
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hierarchy(OwnAnswers):
    """Hierarchical comparative reasoning (McSc 4.2): of two clips, all dimensions, then which.

    An answer is worth one where it has a block for every dimension, the share of blocks that have
    their form, and one for the right clip.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """A judge that is trained on preferences: a reward model (VideoAlign 3.2), or a critic (IPO).

    By launch/train_judge.py alone, or as a stage of a run whose reward is of this name and names no
    folder, and whose clips it then labels.
    """

    name: str = field(
        "",
        ("", SCORES, ANSWERS),
        "What is trained: a model that scores, or one that answers in words; '': nothing.",
    )
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
        when=_SCORES,
    )
    dimensions: tuple[str, ...] = field(
        ("visual_quality", "motion_quality", "text_alignment"),
        "",
        "Dimensions that are scored.",
        when=_ANY,
    )
    token: str = field(
        "separate",
        ("separate", "shared"),
        "A token a dimension, or the last token of the row for all.",
        when=_SCORES,
    )
    head: str = field(
        "separate",
        ("separate", "shared"),
        "An output a dimension, or one for all (VideoAlign's checkpoint).",
        when=_SCORES,
    )
    loss: str = field(
        "btt",
        ("bt", "btt", "regression"),
        "Bradley-Terry, that with ties, or squared error to ratings.",
        when=_SCORES,
    )
    theta: float = field(
        5.0,
        "> 1",
        "The larger, the more ties.",
        when=({**_SCORES, "judge.loss": "btt"}, {**_ANSWERS, "judge.critic.ranking": ON}),
    )
    masks: str = field(
        "valid",
        ("valid", "official"),
        "Whether labels that say nothing leave the mean, or count as 0 in it (VideoAlign's code).",
        when=_SCORES,
    )
    rating_center: float = field(
        3.0,
        "",
        "Is taken off the ratings.",
        when={**_SCORES, "judge.loss": "regression"},
    )
    positions: str = field(
        "sequential",
        ("sequential", "mrope"),
        "Positions count all tokens, or are those in time, height and width.",
        when=_SCORES,
    )
    fps: float = field(2.0, "> 0", "Frames a second of a video that are seen.", when=_SCORES)
    min_frames: int = field(
        4,
        ">= 2",
        "Frames that are seen at least, where there are so many.",
        when=_SCORES,
    )
    max_frames: int = field(768, ">= 2", "Frames that are seen at most.", when=_SCORES)
    min_pixels: int = field(
        100_352, ">= 1", "Pixels of a frame at least: smaller ones grow.", when=_SCORES
    )
    max_pixels: int = field(
        200_704, ">= 1", "Pixels of a frame at most: larger ones shrink.", when=_SCORES
    )
    most_tokens: int = field(
        4096, ">= 1", "Tokens of a video with its question at most.", when=_SCORES
    )
    parts: tuple[str, ...] = field(
        (r"^model/vision/",),
        PATTERN,
        "Regular expressions of what is trained whole, besides head and tokens.",
        when=_ANY,
    )
    remat: str = field("full", "", "What blocks keep for gradients.", touches="speed", when=_ANY)
    attention: str = field("auto", "", "Implementation of attention.", touches="speed", when=_ANY)
    score_batch: int = field(
        8,
        ">= 1",
        "Clips that are scored at once, over all devices; filled up to a multiple of these.",
        touches="speed",
        when=_SCORES,
    )
    export_dtype: str = field("bfloat16", DTYPES, "Type of the weights in the folder.", when=_ANY)
    critic: Critic = section(Critic, when=_ANSWERS)
    reasoning: Reasoning = section(Reasoning, when=_REASONED)
    hierarchy: Hierarchy = section(Hierarchy, when=_REASONED)
    scratch: JudgeScratch = section(JudgeScratch, when=_ANY)
    world: JudgeWorld = section(JudgeWorld, when=_ANY)
    lora: JudgeLora = section(JudgeLora, when=_ANY)
    train: Train = section(Train, when=_ANY)
