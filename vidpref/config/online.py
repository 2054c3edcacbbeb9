"""Schema of alignment on fresh clips, which the policy draws for a judge before it learns."""

import dataclasses

from vidpref.config.fields import ON, Not, field

TRAJECTORIES = "flow_grpo"  # the method that learns from the sampler's steps, not from clips alone
FROM_ADVANTAGES = ("diffusion_nft", "awm")  # from clips, by their advantage over others
LATENT, PIXELS = "prfl", "vader"  # from the gradient of a reward of noisy clips, or of pixels
BACKPROPAGATED = (LATENT, PIXELS)
NOISES = ("flow_grpo", "dance_grpo", "cps")
SCALES = ("group", "batch", "none")
ORDERS = ("sum_then_normalise", "normalise_then_sum")

_GRPO = {"align.method": TRAJECTORIES}
_COMPARED = {"align.method": (TRAJECTORIES, *FROM_ADVANTAGES)}
_RATIOS = {"align.method": (TRAJECTORIES, "awm")}
_STOPS = {"align.online.on_fall": "stop"}
_GROUPS = {"align.method": Not(BACKPROPAGATED)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Online:
    """What a step draws; `align.train.batch_size` is its number of prompts."""

    prompts: int = field(0, ">= 0", "Train prompts that clips are drawn for; 0: all.")
    group: int = field(8, ">= 2", "Clips of a prompt, drawn from different noise.", when=_GROUPS)
    updates: int = field(
        1, ">= 1", "Steps that learn from one drawing, each from a part of it.", when=_GROUPS
    )

    watch: str = field(
        "",
        ("", "verifier"),
        "Judge that scores the clips too, and nothing learns from; it warns where it falls while "
        "the reward rises.",
        touches="watching",
        when={"data.name": "miniworld"},
        result_when=_STOPS,
    )
    fall: float = field(
        0.05,
        "> 0",
        "A fall from the best that is warned of, of means over 8 drawings.",
        touches="watching",
        when={"data.name": "miniworld", ".watch": ON},
        result_when=_STOPS,
    )
    on_fall: str = field(
        "warn",
        ("warn", "stop"),
        "Whether that is only said, or ends the training there: the policy is what it is then.",
        touches="watching",
        when={"data.name": "miniworld", ".watch": ON},
        result_when=_STOPS,
    )

    order: str = field(
        "sum_then_normalise",
        ORDERS,
        "Several rewards are added up and compared within the group, or compared apart.",
        when=_COMPARED,
    )
    scale: str = field(
        "group",
        SCALES,
        "Whose deviation the distance to the group's mean is divided by.",
        when=_COMPARED,
    )
    largest: float = field(5.0, "> 0", "No advantage is larger, up or down.", when=_COMPARED)
    noise: str = field("flow_grpo", NOISES, "How the sampler's steps are random.", when=_GRPO)
    level: float = field(
        0.7, "> 0", "How random: 0.7 with flow_grpo, 0.25 with dance_grpo, cps up to 1.", when=_GRPO
    )
    window: tuple[int, int] = field(
        (0, 4),
        ">= 0",
        "The sampler's first random step and the one behind the last; others follow the flow.",
        when=_GRPO,
    )
    slide: int = field(
        0,
        ">= 0",
        "Drawings after which the window moves on by a step, and behind the last begins anew "
        "(MixGRPO); 0: it stays.",
        when=_GRPO,
    )
    clip: float = field(
        1e-4,
        "in (0, 1]",
        "How far the ratio of probabilities may go from 1, of a sampler's step or by awm's errors, "
        "where a drawing is learnt from several times.",
        when={**_RATIOS, ".updates": Not(1)},
    )
    kl: float = field(
        0.0,
        ">= 0",
        "Weight of the divergence of each step from the reference's; of diffusion_nft, of the "
        "squared distance of the network's output from the pre-trained policy's.",
        when={"align.method": (TRAJECTORIES, "diffusion_nft")},
    )
    last: int = field(
        1,
        ">= 1",
        "Last steps of the sampler that the reward's gradient goes through.",
        when={"align.method": PIXELS},
    )
    seen: int = field(
        0,
        ">= 0",
        "Frames of a clip that the judge sees in training at most, an even number; 0: those that "
        "it always sees.",
        when={"align.method": PIXELS},
    )
    decoded: int = field(
        0,
        ">= 0",
        "First steps of a latent clip that are decoded for the judge in training, which sees no "
        "more of it; 0: all.",
        when={"align.method": PIXELS},
    )
    target: float = field(
        0.0,
        ">= 0",
        "Reward at which a clip pulls no more (PRFL's code: 2); 0: all pull, at any reward.",
        when={"align.method": BACKPROPAGATED},
    )
