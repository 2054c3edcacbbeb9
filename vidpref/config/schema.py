"""Every option of a run, once: what it is called, what it may be, what it means, what it touches.

`Config` is the root. `vidpref/config/fields.py` says how a field is written; the sections of
networks, training and alignment lie in files of their own.
"""

import dataclasses

from ml_collections import ConfigDict

from vidpref.config.align import GUIDANCE, KINDS, SAMPLED_ROWS, TIMES, TRAINS, Align
from vidpref.config.fields import (
    ON,
    Field,
    Not,
    build,
    counts,
    field,
    lookup,
    open_sections,
    section,
    walk,
)
from vidpref.config.judge import ANSWERS, DRAWN, SCORES, Judge
from vidpref.config.metrics import Metrics
from vidpref.config.networks import LATENT_NETWORKS, PIXEL_NETWORKS, Model, SuperresModel
from vidpref.config.online import LATENT
from vidpref.config.training import Train
from vidpref.config.video_reward import VideoReward
from vidpref.config.vlm_judge import GRADED, GRADES, TEMPLATES, VlmJudge

NO_JUDGE = "none"  # as reward.name: clips are drawn, and nobody scores them
PREFERENCES = "preferences"  # as data.name: a file that says which of two clips is better
DTYPES = ("float32", "bfloat16")
_MODELS = ("metrics", SCORES, ANSWERS)  # judges of local folders
_VIDEOS = ("video_folder", "something_something_v2", PREFERENCES)
_T5 = {"text.name": ("t5", "umt5")}
_LOGIT_NORMAL = ({".time": "logit_normal"}, {"align.time": "logit_normal"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """The grid of devices; one axis may be -1, for the rest of them."""

    data: int = field(-1, ">= -1", "Copies of the parameters; rows are divided.", touches="speed")
    fsdp: int = field(1, ">= -1", "Parts of the parameters; rows are divided too.", touches="speed")
    context: int = field(
        1,
        ">= -1",
        "Parts of the clips of a row, or where clips are too few of the tokens of each; "
        "parameters are divided as over fsdp.",
        touches="speed",
    )
    tensor: int = field(1, ">= -1", "Parts of the heads of attention.", touches="speed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosts:
    """How long the hosts of a pod wait for each other, in seconds."""

    start_seconds: float = field(
        300.0, "> 0", "How long to wait for all hosts at the start.", touches="watching"
    )
    heartbeat_seconds: float = field(
        100.0, ">= 5", "Silence after which a host counts as lost.", touches="watching"
    )
    barrier_seconds: float = field(
        3600.0,
        "> 0",
        "How long to wait for all hosts where they meet; 24 times as long for work of one.",
        touches="watching",
    )
    grace_seconds: float = field(
        30.0,
        "> 0",
        "How long a host lives after SIGTERM; a checkpoint that takes longer is warned of.",
        touches="watching",
    )
    stall_minutes: float = field(
        60.0,
        ">= 0",
        "Minutes without a step after which stacks are printed and all hosts end; 0: never.",
        touches="watching",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """The clips and prompts of a run."""

    name: str = field(
        "miniworld", "", "Data set: preferences, or a folder of data/ with a TFDS builder."
    )
    path: str = field(
        "",
        "",
        "Folder of the data set.",
        touches="place",
        when={"data.name": ("video_folder", "something_something_v2")},
    )
    pairs: str = field(
        "",
        "",
        "File or folder of preferences (README, 'Your own preferences').",
        touches="place",
        when={"data.name": PREFERENCES},
    )
    layout: str = field(
        "auto",
        "",
        "Layout of data.pairs; auto: told by its files.",
        when={"data.name": PREFERENCES},
    )
    real: str = field(
        "",
        "",
        "Folder of real videos with captions.csv, for methods that mix some in.",
        touches="place",
        when={"data.name": PREFERENCES},
    )
    prompts: str = field(
        "something_something_v2.csv",
        "",
        "CSV of the evaluation prompts: a path, or a file of data/prompts.",
        touches="place",
        when={"data.name": "something_something_v2"},
    )
    validation_fraction: float = field(
        0.1,
        "in [0, 1)",
        "Part of the train prompts that are for validation.",
        when={"data.name": "something_something_v2"},
    )
    held_out: float = field(
        0.1,
        "in [0, 0.5)",
        "Part of the prompts for testing, and as many for validation.",
        when={"data.name": ("video_folder", PREFERENCES)},
    )
    prompts_per_split: int = field(
        256, ">= 1", "Prompts of a split at most.", when={"data.name": "video_folder"}
    )
    frames: int = field(16, ">= 1", "Frames of a clip.")
    height: int = field(24, ">= 1", "Rows of pixels of a clip.")
    width: int = field(40, ">= 1", "Columns of pixels of a clip.")
    high_height: int = field(
        192, ">= 1", "Rows after super-resolution.", when={"superres.enabled": ON}
    )
    high_width: int = field(
        320, ">= 1", "Columns after super-resolution.", when={"superres.enabled": ON}
    )
    buckets: tuple[tuple[int, int], ...] = field(
        (),
        ">= 1",
        "(height, width) of clips by aspect ratio; (): all have data.height and data.width.",
        when={"data.name": PREFERENCES},
    )
    fps: float = field(
        0.0,
        ">= 0",
        "Frames a second that are taken of a video; 0: spread over all of it.",
        when={"data.name": _VIDEOS},
    )
    short: str = field(
        "error",
        ("error", "hold"),
        "A video that is too short is bad, or holds its last frame.",
        when={"data.name": _VIDEOS},
    )
    max_bad_fraction: float = field(
        0.01,
        "in [0, 1]",
        "Part of the clips that may be bad.",
        touches="watching",
        when={"data.name": _VIDEOS},
    )
    workers: int = field(
        0,
        ">= 0",
        "Threads that decode videos; 0: one a core.",
        touches="speed",
        when={"data.name": ("video_folder", "something_something_v2")},
    )
    encode_batch: int = field(
        128,
        ">= 1",
        "Clips that are encoded at once, over all devices; filled up to a multiple of these.",
        touches="speed",
        when={"data.name": PREFERENCES},
    )
    scenes_per_prompt: int = field(
        1, "in [1, 4]", "First frames of a prompt.", when={"data.name": "miniworld"}
    )
    camera: bool = field(
        False, "", "Whether the camera pans in some prompts.", when={"data.name": "miniworld"}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """How prompts become arrays."""

    name: str = field("t5", ("words", "t5", "umt5"), "Encoder; words: a table, without weights.")
    path: str = field(
        "",
        "",
        "Folder of the encoder, or of a diffusers pipeline that holds one.",
        touches="place",
        when=_T5,
    )
    length: int = field(64, ">= 1", "Tokens of a prompt.")
    dim: int = field(4096, ">= 1", "Width of a token's state.")
    padding: str = field(
        "hidden", ("hidden", "seen"), "Whether the network sees padding tokens.", when=_T5
    )
    clean: bool = field(False, "", "Clean prompts as Wan does.", when=_T5)
    dtype: str = field("bfloat16", DTYPES, "Compute type of the encoder.", when=_T5)
    truncate: bool = field(
        False, "", "Cut prompts that are too long; otherwise an error.", when={"text.name": "words"}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPM:
    """Discrete denoising diffusion."""

    schedule: str = field("cosine", ("cosine", "linear", "scaled_linear"), "Noise schedule.")
    steps: int = field(1000, ">= 1", "Steps of the training chain.")
    spacing: str = field(
        "trailing", ("trailing", "leading", "linspace"), "Which steps a sampler visits."
    )
    snr_shift: float = field(1.0, "> 0", "Divides the signal-to-noise ratio of the schedule.")
    zero_terminal_snr: bool = field(False, "", "Whether nothing of the clip is left at the end.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow:
    """Rectified flow."""

    time: str = field("uniform", TIMES, "Distribution of training times before the shift.")
    logit_mean: float = field(0.0, "", "Mean of the logit of the time.", when=_LOGIT_NORMAL)
    logit_std: float = field(1.0, "> 0", "Deviation of the logit of the time.", when=_LOGIT_NORMAL)
    shift: float = field(1.0, "> 0", "Shift of times; above 1 more of them are near noise.")
    min_time: float = field(1e-3, "in (0, 1)", "Smallest time in training and sampling.")
    spacing: str = field("euler", ("euler", "unipc"), "Grid of sampling times before the shift.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion:
    """The noise process."""

    name: str = field("ddpm", ("ddpm", "flow"), "Process; its own section holds its fields.")
    prediction: str = field("eps", KINDS, "What the network predicts.")
    error_in: str = field("eps", KINDS, "Space in which pre-training measures its error.")
    ddpm: DDPM = section(DDPM, when={".name": "ddpm"})
    flow: Flow = section(Flow, when={".name": "flow"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """How clips are drawn."""

    name: str = field(
        "ddim",
        ("ddim", "ddpm", "euler", "unipc", "cogvideox_ddim", "cogvideox_dpm"),
        "Sampler of the chain.",
    )
    steps: int = field(50, ">= 1", "Steps of the chain.")
    eta: float = field(
        0.0, "in [0, 1]", "Noise that ddim adds: 0 none, 1 as ddpm.", when={".name": "ddim"}
    )
    guidance_scale: float = field(5.0, ">= 0", "Strength of classifier-free guidance; 1: none.")
    dynamic_guidance: bool = field(
        False,
        "",
        "CogVideoX's growing guidance (use_dynamic_cfg).",
        when={"model.name": "cogvideox"},
    )
    negative_prompt: str = field(
        "",
        "",
        "What clips should not show.",
        when={"model.name": LATENT_NETWORKS},
    )
    batch_size: int = field(
        128,
        ">= 1",
        "Clips that are drawn at once, over all devices; filled up to a multiple of these.",
        touches="speed",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Training of the generator from nothing."""

    condition_dropout: float = field(
        0.1, "in [0, 1]", "Probability that a row loses its text, for classifier-free guidance."
    )
    train: Train = section(Train)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Superres:
    """The second network of a cascade."""

    enabled: bool = field(False, "", "Whether clips go through super-resolution.")
    low_res_augmentation: float = field(
        0.3,
        "in [0, 1]",
        "Noise on the low-resolution input, up to this time.",
        when={".enabled": ON},
    )
    sampler_steps: int = field(50, ">= 1", "Steps of its chain.", when={".enabled": ON})
    model: SuperresModel = section(SuperresModel, when={".enabled": ON})
    train: Train = section(Train, when={".enabled": ON})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """The clips that the alignment learns from."""

    prompts: int = field(0, ">= 0", "Train prompts that are sampled; 0: all.")
    per_prompt: int = field(128, ">= 1", "Clips of a prompt.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteJudge:
    """A vision-language model behind the OpenAI-compatible chat API."""

    base_url: str = field("", "", "Address, e.g. http://judge:8000/v1.", touches="place")
    model: str = field("", "", "Name of the model on that server.")
    api_key_env: str = field(
        "OPENAI_API_KEY", "", "Environment variable that holds the key.", touches="place"
    )
    templates: str = field("", "", TEMPLATES, touches="place")
    graded: str = field("grades", GRADES, GRADED)
    frames: int = field(8, ">= 1", "Frames that are shown, evenly spaced.")
    min_size: int = field(224, ">= 1", "Frames are enlarged to this height and width at least.")
    max_tokens: int = field(1024, ">= 0", "Longest answer, in tokens; 0: as the server has it.")
    concurrency: int = field(16, ">= 1", "Requests at a time.", touches="speed")
    retries: int = field(4, ">= 0", "Further tries of a question.", touches="speed")
    timeout: float = field(120.0, "> 0", "Seconds for one answer.", touches="speed")
    pause: float = field(1.0, ">= 0", "Seconds before the first retry.", touches="speed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reward:
    """Who judges clips."""

    name: str = field(
        "remote_judge",
        ("verifier", "remote_judge", *_MODELS, NO_JUDGE),
        "Judge; none: nobody scores clips.",
    )
    dimension: str = field(
        "accept", "", "Score that tables call acceptance.", when={".name": Not(NO_JUDGE)}
    )
    dimensions: tuple[str, ...] = field(
        (),
        "",
        "All that the judge scores; (): reward.dimension and what the alignment needs.",
        when={".name": Not(NO_JUDGE)},
    )
    metrics: Metrics = section(Metrics, when={".name": "metrics"})
    remote_judge: RemoteJudge = section(RemoteJudge, when={".name": "remote_judge"})
    video_reward: VideoReward = section(VideoReward, when={".name": "video_reward"})
    vlm_judge: VlmJudge = section(VlmJudge, when={".name": "vlm_judge"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The clips that policies are compared on."""

    train_prompts: int = field(0, ">= 0", "Train prompts; 0: all.")
    test_prompts: int = field(0, ">= 0", "Held-out prompts; 0: all.")
    per_prompt: int = field(32, ">= 1", "Clips of a prompt.")
    verifier: bool = field(
        False,
        "",
        "Whether the verifier scores these clips too: tables then go by it, the truth, and one "
        "shows the judge against it.",
        when={"data.name": "miniworld", "reward.name": ("remote_judge", *_MODELS)},
    )
    best_of: tuple[int, ...] = field(
        (8, 32), ">= 1", "Values of n in tables of best-of-n acceptance.", touches="watching"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A run: from data to a report."""

    name: str = field("", "", "Name of the config.", touches="watching")
    scale: str = field("", "", "Scale of the config.", touches="watching")
    paper: str = field("", "", "Paper that the method is from.", touches="watching")
    expected_time: str = field("", "", "Expected time of a run.", touches="watching")
    seed: int = field(0, "in [0, 2000000000]", "Seed of parameters, batches and noise.")
    rounds: int = field(1, ">= 1", "Rounds of sampling, labelling and aligning.")
    compute_dtype: str = field("bfloat16", DTYPES, "Compute type of the networks.")
    search: tuple[str, ...] = field(
        (), "", "Overrides that launch/compare.py tries, each a string.", touches="watching"
    )
    wandb: str = field(
        "",
        "",
        "Project of Weights & Biases that gets the metrics of every training; '': none.",
        touches="watching",
    )
    mesh: Mesh = section(Mesh)
    hosts: Hosts = section(Hosts)
    data: Data = section(Data)
    text: Text = section(Text)
    model: Model = section(Model)
    diffusion: Diffusion = section(Diffusion)
    sampler: Sampler = section(Sampler)
    pretrain: Pretrain = section(Pretrain, when={"model.name": PIXEL_NETWORKS})
    superres: Superres = section(Superres, when={"model.name": PIXEL_NETWORKS})
    label: Label = section(
        Label,
        when=(
            {"align.method": (GUIDANCE, LATENT)},
            {"align.rows": SAMPLED_ROWS, **TRAINS},
            {"judge.name": ON, "judge.world.clips": DRAWN, "data.name": "miniworld"},
        ),
    )
    reward: Reward = section(Reward)
    align: Align = section(Align)
    judge: Judge = section(Judge)
    evaluate: Evaluate = section(Evaluate)


FIELDS: dict[str, Field] = dict(walk(Config))
OPEN = open_sections(Config)


def new_config() -> ConfigDict:
    """Returns an unlocked config with the default of every field."""
    return build(Config)


def check_values(config: ConfigDict) -> None:
    """Refuses values out of their range in fields that count.

    Raises:
        ValueError: names every such field, its value, its range and its meaning, a line each.
    """
    lines = []
    for path, spec in FIELDS.items():
        value = lookup(config, path)
        problem = spec.problem(value)
        if problem and counts_in(path, config):
            lines.append(f"config.{path}={value!r}: {problem} ({spec.meaning})")
    if lines:
        raise ValueError("\n".join(lines))


def counts_in(path: str, config: ConfigDict) -> bool:
    """Whether a field counts in a config; fields of open sections do where there are any."""
    spec = FIELDS.get(path)
    return spec is None or counts(spec, config)
