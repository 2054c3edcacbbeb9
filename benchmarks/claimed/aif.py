"""AIF: forward EM against reverse Bradley-Terry, and what optimising a proxy for long does."""

from claimed.claim import DIMENSIONS, PRETRAINED, QUALITY, Claim, Group, after
from claimed.settings import DPO, DPO_WINNER, FLOW_RWR, RWR, SFT
from vidpref.evaluation.verdicts import Kind

ROUNDS = 3
METHODS = {  # as they are called, in the order of the runs and of the picture
    "RWR (forward EM)": RWR,
    "DPO (reverse BT)": DPO,
    "DPO with the winner's error": DPO_WINNER,
    "SFT": SFT,
    "Flow-RWR (forward EM)": FLOW_RWR,
}
_MORE = (*QUALITY, "object_motion")
_OURS = "ours: no paper has it"
# Acceptance by Gemini on train and test prompts (AIF Table 1), of all prompts by round (Figure 5).
_HELD_OUT = {
    SFT: "47.50 after 51.56 % (AIF Table 1): it falls",
    RWR: "50.94 after 51.56 % (AIF Table 1): it does not",
    FLOW_RWR: _OURS,
    DPO: "55.00 after 51.56 % (AIF Table 1)",
    DPO_WINNER: _OURS,
}
_ROUND_2 = {
    RWR: "58.83 after 56.41 % (AIF Figure 5)",
    DPO: "56.25 after 56.17 % (AIF Figure 5): saturated",
}
_AGAINST = {
    (1, "train"): "58.23 against 56.56 % (AIF Table 1)",
    (1, "test"): "50.94 against 55.00 % (AIF Table 1): DPO is better",
    (2, "test"): "58.83 against 56.25 %, train and test prompts (AIF Figure 5)",
}


def _improved() -> list[Claim]:
    """What one round gives, against the pre-trained generator."""
    return [
        Claim(f"{name} improves held-out prompts", said, METHODS[name], PRETRAINED, others=_MORE)
        for name, said in ((name, _HELD_OUT[config]) for name, config in METHODS.items())
    ]


def _against() -> list[Claim]:
    """Method against method, by round; RWR against DPO on both splits."""
    found = []
    for round_ in range(1, ROUNDS + 1):
        for split, prompts in (("test", "held-out"), ("train", "train")):
            found.append(
                Claim(
                    f"RWR beats DPO on {prompts} prompts, after round {round_}",
                    _AGAINST.get((round_, split), _OURS),
                    after(RWR, round_),
                    after(DPO, round_),
                    others=_MORE,
                    split=split,
                )
            )
        others = (
            ("RWR beats Flow-RWR", RWR, FLOW_RWR, Kind.SUPERIOR),
            ("DPO beats SFT", DPO, SFT, Kind.SUPERIOR),
            ("DPO is as good as with the winner's error", DPO, DPO_WINNER, Kind.NOT_INFERIOR),
        )
        found += [
            Claim(
                f"{text}, after round {round_}",
                "55.00 against 47.50 % (AIF Table 1)" if (baseline, round_) == (SFT, 1) else _OURS,
                after(policy, round_),
                after(baseline, round_),
                others=_MORE,
                kind=kind,
            )
            for text, policy, baseline, kind in others
        ]
    return found


def _rounds() -> list[Claim]:
    """What a further round adds."""
    return [
        Claim(
            f"Round {round_} improves {name}",
            _ROUND_2.get(METHODS[name], _OURS) if round_ == 2 else _OURS,
            after(METHODS[name], round_),
            after(METHODS[name], round_ - 1),
            others=_MORE,
            unstable=round_ == 3,
        )
        for round_ in range(2, ROUNDS + 1)
        for name in ("RWR (forward EM)", "DPO (reverse BT)", "DPO with the winner's error")
    ]


PROJECTIONS = Group(
    tuple(METHODS.values()),
    (*_improved(), *_against(), *_rounds()),
    rounds=ROUNDS,
    overrides=(f"reward.dimensions={DIMENSIONS}",),
)

STEPS = (50, 150, 450)
_PROXY = "+align.reward.visual_quality=0.0+align.reward.text_alignment=0.0"


def proxy(steps: int) -> str:
    """Returns the config that is trained on motion quality alone for some steps."""
    return f"flow_dpo+align.train.steps={steps}{_PROXY}"


PROXIES = {steps: proxy(steps) for steps in STEPS}
DRAWN = {
    "motion_quality": "motion quality",
    "accept": "acceptance",
    "text_alignment": "text alignment",
    "object_motion": "object motion",
}

OVEROPTIMISATION = Group(
    tuple(PROXIES.values()),
    (
        Claim(
            "More steps on one proxy (motion quality) raise it further",
            "proxy rewards keep rising (AIF Figure 7)",
            proxy(STEPS[-1]),
            proxy(STEPS[0]),
            "motion_quality",
            unstable=True,
        ),
        Claim(
            "while acceptance falls from its best",
            "AI feedback falls when CLIP or flow is optimised for long (AIF Figure 7)",
            proxy(150),
            proxy(STEPS[-1]),
            others=("text_alignment", "object_motion"),
            unstable=True,
        ),
    ),
)
