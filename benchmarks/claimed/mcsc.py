"""McSc: DPO on a judge of quality loses motion, McDPO keeps it."""

from claimed.claim import PRETRAINED, Claim, Group
from vidpref.evaluation.verdicts import Kind

_QUALITY = "mcdpo+align.reward.text_alignment=0.0"
_LIKES_STILL = f"{_QUALITY}+align.reward.object_motion=-0.5"
_PAPER = "(McSc Table 3)"


def _scaled(config: str, factor: float) -> str:
    return f"{config}+align.object_motion={factor}+align.camera_motion={factor}"


def _claims(config: str, judge: str, others: dict[str, str]) -> tuple[Claim, ...]:
    """Of DPO, which is McDPO with motion scores times 0, and of McDPO by what it is called."""
    dpo = _scaled(config, 0.0)
    found = [
        Claim(
            f"DPO on a judge {judge} loses motion",
            f"dynamic degree falls {_PAPER}",
            PRETRAINED,
            dpo,
            "object_motion",
            ("accept",),
        )
    ]
    for name, policy in others.items():
        found += [
            Claim(
                f"{name} recovers motion (judge {judge})",
                f"dynamic degree above DPO's {_PAPER}",
                policy,
                dpo,
                "object_motion",
                ("accept",),
            ),
            Claim(
                f"{name} is as good as DPO in quality (judge {judge})",
                f"equal or better quality {_PAPER}",
                policy,
                dpo,
                "visual_quality",
                ("motion_quality",),
                Kind.NOT_INFERIOR,
            ),
        ]
    return tuple(found)


MCDPO = Group(
    (_QUALITY, _scaled(_QUALITY, 0.0)),
    _claims(_QUALITY, "of quality", {"McDPO": _QUALITY}),
)
_FOUR = _scaled(_LIKES_STILL, 4.0)
STILL = Group(
    (_scaled(_LIKES_STILL, 0.0), _LIKES_STILL, _FOUR),
    _claims(
        _LIKES_STILL,
        "that likes still clips",
        {"McDPO": _LIKES_STILL, "McDPO, motion scores times 4,": _FOUR},
    ),
)
