"""VideoAlign: Flow-DPO, Flow-RWR, SFT, the schedule of beta, guidance by a latent reward."""

from claimed.claim import PRETRAINED, QUALITY, Claim, Group
from claimed.settings import FLOW_DPO

_SQUARED = f"{FLOW_DPO}+align.time_power=2.0"
_TEXT = "+align.reward.visual_quality=0.0+align.reward.motion_quality=0.0"

BETA = Group(
    ("flow_sft", "flow_rwr", FLOW_DPO, _SQUARED),
    (
        Claim(
            "Flow-DPO improves the generator",
            "win rates 93.4 / 69.1 / 75.4 (VideoAlign Table 3, VBench VQ/MQ/TA)",
            FLOW_DPO,
            PRETRAINED,
            others=QUALITY,
        ),
        Claim(
            "Constant beta beats (1 - tau)^2 in text alignment",
            "win rates 75.4 against 51.0 (VideoAlign Table 3)",
            FLOW_DPO,
            _SQUARED,
            "text_alignment",
            ("accept",),
        ),
        Claim(
            "(1 - tau)^2 gains more in motion quality",
            "win rates 82.4 against 69.1 (VideoAlign Table 3)",
            _SQUARED,
            FLOW_DPO,
            "motion_quality",
        ),
        Claim(
            "Flow-DPO beats Flow-RWR",
            "win rates 93.4 / 69.1 / 75.4 against 51.6 / 63.9 / 53.4 (VideoAlign Table 3)",
            FLOW_DPO,
            "flow_rwr",
            others=QUALITY,
        ),
        Claim(
            "Flow-DPO beats SFT on the preferred clips",
            "win rates 93.4 / 69.1 / 75.4 against 51.3 / 65.2 / 52.8 (VideoAlign Table 3)",
            FLOW_DPO,
            "flow_sft",
            others=QUALITY,
        ),
    ),
)

TEXT = Group(
    tuple(config + _TEXT for config in ("flow_sft", "flow_rwr", FLOW_DPO, _SQUARED)),
    tuple(
        Claim(
            f"Trained on text alignment alone, {what}",
            f"win rates 69.1 against {other} (VideoAlign Table 4)",
            FLOW_DPO + _TEXT,
            baseline + _TEXT,
            "text_alignment",
            ("accept",),
        )
        for what, other, baseline in (
            ("constant beta beats (1 - tau)^2", 63.7, _SQUARED),
            ("Flow-DPO beats Flow-RWR", 59.7, "flow_rwr"),
            ("Flow-DPO beats SFT", 52.9, "flow_sft"),
        )
    ),
)


def _guided(visual: float, motion: float, text: float, *, noise_aware: bool = True) -> str:
    values = {"visual_quality": visual, "motion_quality": motion, "text_alignment": text}
    weights = "".join(f"+align.weights.{name}={value}" for name, value in values.items())
    return "flow_nrg" + ("" if noise_aware else "+align.noise_aware=False") + weights


_ON_TEXT, _ON_QUALITY = _guided(0.0, 0.0, 1.0), _guided(0.5, 0.5, 0.0)
_CLEAN = _guided(0.0, 0.0, 1.0, noise_aware=False)

NRG = Group(
    (_ON_TEXT, _guided(0.1, 0.1, 0.8), _ON_QUALITY, _CLEAN),
    (
        Claim(
            "Weight on text alignment steers to it",
            "TA win rate 70.4 at 0:0:1 (VideoAlign Table 5)",
            _ON_TEXT,
            PRETRAINED,
            "text_alignment",
            ("accept",),
        ),
        Claim(
            "Weight on quality steers to it",
            "VQ 86.4, MQ 93.2 at 0.5:0.5:0 (VideoAlign Table 5)",
            _ON_QUALITY,
            PRETRAINED,
            "motion_quality",
            ("visual_quality", "accept"),
        ),
        Claim(
            "More weight on text alignment gives more of it",
            "TA 70.4 against 60.9 against 26.7 (VideoAlign Table 5)",
            _ON_TEXT,
            _ON_QUALITY,
            "text_alignment",
        ),
        Claim(
            "A reward trained on noisy clips steers better than one trained on clean ones",
            "shown in pictures (VideoAlign appendix E)",
            _ON_TEXT,
            _CLEAN,
            "text_alignment",
            ("accept",),
        ),
    ),
)
