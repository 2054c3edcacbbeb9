"""IPO: pairs against single clips, rounds, and the error of real clips in the loss.

Its tables contradict each other: DPO after one round has a VBench total of 82.42 in table 4, while
in table 3, which names no method, 82.42 (quality 83.53, semantic 77.97) is round 2, after 81.69.
"""

from claimed.claim import QUALITY, Claim, Group, after
from claimed.settings import REAL_WEIGHTS
from vidpref.evaluation.verdicts import Kind

_METHODS = ("dpo", "kto")
_NAMED_NOT = "table 3 names no method; its round 2 is what table 4 gives for DPO after one round"


def _weighted(method: str, weight: float) -> str:
    return f"ipo_{method}+align.real_weight={weight}"


IPO = Group(
    ("ipo_dpo", "ipo_kto"),
    (
        Claim(
            "KTO is as good as DPO after one round",
            "VBench total 82.47 against 82.42 (IPO Table 4; 82.42 is round 2 in its Table 3)",
            "ipo_kto",
            "ipo_dpo",
            others=QUALITY,
            kind=Kind.NOT_INFERIOR,
        ),
        *(
            Claim(
                f"Round {round_} improves {method.upper()}",
                f"VBench total {now} after {before} (IPO Table 3; {_NAMED_NOT})",
                after(f"ipo_{method}", round_),
                after(f"ipo_{method}", round_ - 1),
                others=QUALITY,
                unstable=round_ == 3,
            )
            for method in _METHODS
            for round_, now, before in ((2, 82.42, 81.69), (3, 82.74, 82.42))
        ),
    ),
    rounds=3,
)

REAL = Group(
    tuple(
        config
        for method in _METHODS
        for config in (
            f"ipo_{method}",
            *(_weighted(method, weight) for weight in (0.0, *REAL_WEIGHTS)),
        )
    ),
    tuple(
        Claim(
            f"Real clips in the loss help {method.upper()}, {said}",
            "smoothness 97.84 against 97.81, aesthetic 61.55 against 61.25 (IPO Table 2)",
            policy,
            _weighted(method, 0.0),
            others=QUALITY,
        )
        for method in _METHODS
        for said, policy in (
            ("weight of the paper on the mean error", f"ipo_{method}"),
            *((f"weight {weight:g}", _weighted(method, weight)) for weight in REAL_WEIGHTS),
        )
    ),
)
