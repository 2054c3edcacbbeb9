"""Schema of the alignment: the method, its hyper-parameters, the clips it learns from."""

import dataclasses

from vidpref.config.fields import ON, PATTERN, Not, field, section
from vidpref.config.online import BACKPROPAGATED, FROM_ADVANTAGES, LATENT, TRAJECTORIES, Online
from vidpref.config.training import AlignTrain, Lora, Train

GUIDANCE = "nrg"  # the method that trains a reward for the sampler and no generator
OFFLINE = ("sft", "rwr", "flow_rwr", "dpo", "mcdpo", "kto")  # from clips of any policy
LEARNS_FROM_CLIPS = (*OFFLINE, *FROM_ADVANTAGES)
METHODS = (*LEARNS_FROM_CLIPS, TRAJECTORIES, *BACKPROPAGATED, GUIDANCE)
ROWS = (
    *("all", "pairs", "winners", "real", "real_and_samples"),
    *("preferred", "preferred_winners", "labelled", "preferred_and_losers"),
    *("fresh", "fresh_pairs", "fresh_winners"),
)
SAMPLED_ROWS = ROWS[:3]  # of sampled clips with labels
FRESH_ROWS = ROWS[-3:]  # of clips that the policy draws before a step
PAIRS = ("accepted_rejected", "best_worst")
KINDS = ("x0", "eps", "v", "velocity")  # what a network predicts and an error is measured in
REDUCTIONS = ("mean", "sum")
TIMES = ("uniform", "logit_normal")  # of rectified flow, before the shift
PAIR_WEIGHTS = ("", "gap", "probability")
REFERENCES = ("previous", "pretrained")
REFERENCE_POINTS = ("mean", "balanced", "mismatched", "own_class")

TRAINS = {"align.method": Not(GUIDANCE)}
_DENOISES = (
    {"align.method": LEARNS_FROM_CLIPS},
    {"align.method": (TRAJECTORIES, *BACKPROPAGATED), "align.real_weight": ON},
)
_REFERS = {"align.method": ("dpo", "mcdpo", "kto")}
_GRPO = {"align.method": TRAJECTORIES}
_HELD_TO_DATA = {"align.method": (TRAJECTORIES, *BACKPROPAGATED)}
_LATENT_REWARD = {"align.method": (GUIDANCE, LATENT)}
_DPO = {"align.method": ("dpo", "mcdpo")}
_WEIGHED = {"align.pair_weight": ON}
_MEASURED = {"reward.name": "metrics"}
_REWARDED = {**TRAINS, "align.rows": tuple(r for r in ROWS if r not in ROWS[3:5])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of the dimensions that a judge scores or a file of preferences names."""

    accept: float = field(0.0, "", "Weight of acceptance.")
    visual_quality: float = field(0.0, "", "Weight of visual quality.")
    motion_quality: float = field(0.0, "", "Weight of motion quality.")
    object_motion: float = field(0.0, "", "Weight of how much objects move.")
    camera_motion: float = field(0.0, "", "Weight of how much the camera moves.")
    text_alignment: float = field(0.0, "", "Weight of the match with the prompt.")
    overall: float = field(0.0, "", "Weight of an overall verdict.")
    real: float = field(0.0, "", "Weight of being real (RealDPO's pairs).")
    clip_score: float = field(0.0, "", "Weight of CLIP's score.", when=_MEASURED)
    pick_score: float = field(0.0, "", "Weight of PickScore.", when=_MEASURED)
    hps_v2: float = field(0.0, "", "Weight of HPSv2.", when=_MEASURED)
    hps_v3: float = field(0.0, "", "Weight of HPSv3.", when=_MEASURED)
    optical_flow: float = field(0.0, "", "Weight of the optical flow.", when=_MEASURED)
    aesthetic: float = field(0.0, "", "Weight of LAION's aesthetic score.", when=_MEASURED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """Clips on which checkpoints and hyper-parameters are chosen."""

    prompts: int = field(
        12,
        ">= 0",
        "Validation prompts; 0: all.",
        touches="watching",
        result_when={"align.train.best_metric": ON},
    )
    per_prompt: int = field(
        8,
        ">= 1",
        "Clips of a validation prompt.",
        touches="watching",
        result_when={"align.train.best_metric": ON},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Align:
    """From a policy and preferences to a better policy."""

    method: str = field("dpo", METHODS, "Objective; nrg guides the sampler instead of training.")
    policy: str = field("", "", "Name of the policy in tables; empty: the method's.")

    beta: float = field(
        5000.0,
        "> 0",
        "Strength of the pull towards the reference; of flow_rwr the temperature in exp(r / beta), "
        "of diffusion_nft how far its two policies are from the old one (1).",
        when={"align.method": ("flow_rwr", "dpo", "mcdpo", "kto", "diffusion_nft")},
    )
    eta: float = field(
        1.0, "> 0", "Slope of rwr's weights eta r + gamma.", when={"align.method": "rwr"}
    )
    gamma: float = field(
        0.0, ">= 0", "Offset of rwr's weights eta r + gamma.", when={"align.method": "rwr"}
    )
    nll_weight: float = field(0.0, ">= 0", "Adds this much of the winner's error.", when=_DPO)
    real_weight: float = field(
        0.0,
        ">= 0",
        "Adds this much of the error on real clips (IPO eq. 7, 9; DDRL; PRFL).",
        when=(_REFERS, _HELD_TO_DATA, {"align.method": OFFLINE, "align.real_weight": ON}),
    )
    time_power: float = field(
        0.0,
        ">= 0",
        "Beta is multiplied by (1 - tau)^time_power; 2 is VideoAlign's eq. 6.",
        when={"align.method": "dpo"},
    )
    pair_weight: str = field(
        "",
        PAIR_WEIGHTS,
        "What a pair weighs: more with the gap of its scores, or with VideoDPO's 1 / probability.",
        when={"align.method": "dpo"},
    )
    pair_weight_power: float = field(
        1.0, "> 0", "Power of gap / reference, or reference / probability.", when=_WEIGHED
    )
    pair_weight_reference: float = field(
        1.0, "> 0", "Gap or probability of pairs that weigh 1; VideoDPO's is 0.72.", when=_WEIGHED
    )
    pair_weight_cap: float = field(10.0, "> 0", "Largest weight of a pair.", when=_WEIGHED)
    object_motion: float = field(
        1.0, ">= 0", "Weight of object motion (McSc eq. 5).", when={"align.method": "mcdpo"}
    )
    camera_motion: float = field(
        1.0, ">= 0", "Weight of camera motion (McSc eq. 5).", when={"align.method": "mcdpo"}
    )
    desirable_weight: float = field(
        1.0, "> 0", "Weight of desirable clips.", when={"align.method": "kto"}
    )
    undesirable_weight: float = field(
        1.0, "> 0", "Weight of undesirable clips.", when={"align.method": "kto"}
    )
    threshold: float = field(
        0.5, ">= 0", "A clip above this reward is desirable.", when={"align.method": "kto"}
    )
    reference_point: str = field(
        "mean",
        REFERENCE_POINTS,
        "Which mean of the policy's advantage clips are compared with.",
        when={"align.method": "kto"},
        renamed={"per_class": "own_class"},
    )

    error_in: str = field(
        "",
        ("", *KINDS),
        "Space of the denoising error; empty: that of diffusion.error_in.",
        when=_DENOISES,
    )
    reduction: str = field(
        "mean", REDUCTIONS, "Mean or sum over a clip; beta goes with it.", when=_DENOISES
    )
    time_range: tuple[float, float] = field(
        (0.0, 1.0), "in [0, 1]", "Interval of the training times.", when=_DENOISES
    )
    time: str = field(
        "",
        ("", *TIMES),
        "Distribution of the training times; empty: that of diffusion.flow.time.",
        when=[{**every, "diffusion.name": "flow"} for every in _DENOISES],
    )
    condition_dropout: float = field(
        0.0, "in [0, 1]", "Probability that a row loses its text.", when=_DENOISES[0]
    )
    reference: str = field(
        "previous",
        REFERENCES,
        "Policy that later rounds are held to.",
        when=(_REFERS, {**_GRPO, "align.online.kl": ON}, {"align.method": "diffusion_nft"}),
    )

    rows: str = field("pairs", ROWS, "Clips of a training row.", when=TRAINS)
    pairs: str = field(
        "accepted_rejected",
        PAIRS,
        "Which clips of a prompt are paired.",
        when={**TRAINS, "align.rows": ("pairs", "winners")},
    )
    max_pairs_per_prompt: int = field(
        8,
        ">= 1",
        "Pairs of a prompt at most.",
        when={**TRAINS, "align.rows": ("pairs", "winners")},
    )
    reward: Weights = section(Weights, when=_REWARDED)
    normalize_reward: bool = field(
        False,
        "",
        "Whether rewards get mean 0 and deviation 1 over the clips that are learnt from.",
        when=(
            {**TRAINS, "align.rows": SAMPLED_ROWS},
            {"align.method": OFFLINE, "align.rows": "fresh"},
        ),
    )
    real_clips: int = field(
        0,
        ">= 0",
        "Real clips that are used; 0: all there are.",
        when=({**TRAINS, "align.rows": ("real", "real_and_samples")}, {"align.real_weight": ON}),
    )
    losers: int = field(
        3,
        ">= 0",
        "Losers of a row.",
        when={**TRAINS, "align.rows": ("real_and_samples", "preferred_and_losers")},
    )

    online: Online = section(Online, when={**TRAINS, "align.rows": FRESH_ROWS})

    lora: Lora = section(Lora, when=TRAINS)
    parts: tuple[str, ...] = field(
        (),
        PATTERN,
        "Regular expressions of the parameters that are trained; none: all.",
        when={**TRAINS, "align.lora.rank": (0,)},
    )
    train: AlignTrain = section(AlignTrain)
    validation: Validation = section(Validation)

    dimensions: tuple[str, ...] = field(
        ("visual_quality", "motion_quality", "text_alignment"),
        "",
        "Dimensions of the latent reward model.",
        when=_LATENT_REWARD,
    )
    weights: Weights = section(Weights, when={"align.method": GUIDANCE})
    scale: float = field(
        100.0, ">= 0", "Strength of the reward's guidance.", when={"align.method": GUIDANCE}
    )
    guide_at: str = field(
        "noise",
        ("noise", "clean"),
        "Reward of the noisy clip, or of the predicted clean one.",
        when={"align.method": GUIDANCE},
    )
    noise_aware: bool = field(
        True,
        "",
        "Train the reward on noisy clips, not on clean ones alone.",
        when=_LATENT_REWARD,
    )
    layers: int = field(
        8, ">= 1", "Layers of the generator in the reward model.", when=_LATENT_REWARD
    )
    pairs_per_prompt: int = field(
        64, ">= 1", "Pairs of a prompt for the reward model.", when=_LATENT_REWARD
    )
    reward_train: Train = section(Train, when={"align.method": LATENT})
