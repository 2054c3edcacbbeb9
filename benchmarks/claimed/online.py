"""On-policy learning: fresh clips at every step against clips that were drawn once.

No table of the five papers has it. AIF's two projections and the methods that were made for fresh
clips learn from the same number of them a step, drawn by the policy as it is and judged at once.
RWR has positive weights alone, and learns its own mistakes with its clips: it is measured with the
error on real clips beside it too, and what those clips do alone.

On a proxy, the small PickScore of `feedback`, AIF's projections are measured over the steps, on
clips drawn once and on fresh ones; and Flow-GRPO free, held by the divergence from the pre-trained
policy, and held by the error on real clips in its place.
"""

from claimed import settings
from claimed.claim import PRETRAINED, PROXY, QUALITY, Claim, Group
from claimed.settings import (
    FLOW_DPO,
    ON_PICK_SCORE,
    ONLINE_DPO,
    ONLINE_RWR,
    ONLINE_RWR_HELD,
    REAL_ALONE,
)
from vidpref.evaluation.verdicts import Kind

_FLOW_RWR = "flow_rwr"
_METHODS = {
    "Online DPO (reverse BT)": ONLINE_DPO,
    "Online RWR (forward EM)": ONLINE_RWR,
    "Online RWR with a data term": ONLINE_RWR_HELD,
    "The data term alone": REAL_ALONE,
    "Flow-GRPO": "flow_grpo",
    "DiffusionNFT": "diffusion_nft",
    "AWM": "awm",
}
_OURS = "ours: no paper has it"

ONLINE = Group(
    (FLOW_DPO, _FLOW_RWR, *_METHODS.values()),
    (
        *(
            Claim(f"{name} improves the generator", _OURS, policy, PRETRAINED, others=QUALITY)
            for name, policy in _METHODS.items()
        ),
        Claim("Online DPO beats DPO", _OURS, ONLINE_DPO, FLOW_DPO, others=QUALITY),
        Claim("Online RWR beats RWR", _OURS, ONLINE_RWR, _FLOW_RWR, others=QUALITY),
        Claim("Online RWR beats online DPO", _OURS, ONLINE_RWR, ONLINE_DPO, others=QUALITY),
        Claim(
            "Online RWR with a data term beats the data term alone",
            "a data term in the place of a reverse KL: less hacking (DDRL)",
            ONLINE_RWR_HELD,
            REAL_ALONE,
            others=QUALITY,
        ),
        Claim("and online DPO", _OURS, ONLINE_RWR_HELD, ONLINE_DPO, others=QUALITY),
        Claim("Flow-GRPO beats online DPO", _OURS, "flow_grpo", ONLINE_DPO, others=QUALITY),
        Claim(
            "DiffusionNFT beats Flow-GRPO",
            "as good with 1/25 of the time (DiffusionNFT, abstract)",
            "diffusion_nft",
            "flow_grpo",
            others=QUALITY,
        ),
        Claim(
            "AWM beats Flow-GRPO",
            "as good with 1/24 of the time at most (AWM, abstract)",
            "awm",
            "flow_grpo",
            others=QUALITY,
        ),
    ),
)

# Projection and clips -> policy.
PROJECTIONS = {
    "DPO, clips drawn once": "dpo_drawn_pick_score",
    "DPO, fresh": "dpo_fresh_pick_score",
    "RWR, clips drawn once": "rwr_drawn_pick_score",
    "RWR, fresh": "rwr_fresh_pick_score",
}
_FALLS = "AI feedback falls when a metric is optimised for long (AIF Figure 7)"


def _projections() -> list[Claim]:
    """Whether each is hacked, and whether fresh clips hack sooner and RWR less."""
    found = []
    for name, policy in PROJECTIONS.items():
        what = name.replace(",", " on PickScore,")
        found += [
            Claim(f"PickScore rises: {what}", _OURS, policy, PRETRAINED, PROXY, unstable=True),
            Claim(f"Accepted less than before: {what}", _FALLS, PRETRAINED, policy, others=QUALITY),
        ]
    for one in ("DPO", "RWR"):
        drawn, fresh = (PROJECTIONS[f"{one}, {clips}"] for clips in ("clips drawn once", "fresh"))
        text = f"{one} on PickScore is accepted less with fresh clips"
        found.append(Claim(text, _OURS, drawn, fresh, others=QUALITY))
    for clips in ("clips drawn once", "fresh"):
        forward, reverse = (PROJECTIONS[f"{one}, {clips}"] for one in ("RWR", "DPO"))
        text = f"RWR on PickScore is accepted more than DPO, {clips}"
        found.append(Claim(text, _OURS, forward, reverse, others=QUALITY))
    return found


PROXY_PROJECTIONS = Group(
    tuple(PROJECTIONS.values()),
    tuple(_projections()),
    variants=settings.PICK_SCORE_PROJECTIONS,
)

_FREE = "grpo_pick_score"
# What holds it -> policy, and config with overrides.
LEASHES = {"nothing": _FREE} | {
    words: f"{_FREE}_{name}" for words, name in (("a reverse KL", "kl"), ("real clips", "real"))
}
_KL, _REAL = LEASHES["a reverse KL"], LEASHES["real clips"]
_ON_PROXY = ("flow_grpo", *ON_PICK_SCORE, "align.online.watch=verifier")
LEASH = Group(
    tuple(LEASHES.values()),
    (
        Claim(
            "Flow-GRPO on PickScore is accepted less than the pre-trained generator",
            _FALLS,
            PRETRAINED,
            _FREE,
            others=QUALITY,
        ),
        Claim(
            "A reverse KL holds the truth",
            "the usual guard (Flow-GRPO)",
            _KL,
            _FREE,
            others=QUALITY,
        ),
        Claim(
            "A data term in its place holds it better",
            "less hacking than a reverse KL (DDRL)",
            _REAL,
            _KL,
            others=QUALITY,
        ),
        Claim(
            "With the data term acceptance does not fall",
            _OURS,
            _REAL,
            PRETRAINED,
            others=QUALITY,
            kind=Kind.NOT_INFERIOR,
        ),
        Claim("PickScore rises", _OURS, _FREE, PRETRAINED, PROXY, unstable=True),
        Claim("with a reverse KL too", _OURS, _KL, PRETRAINED, PROXY, unstable=True),
        Claim("with a data term too", _OURS, _REAL, PRETRAINED, PROXY, unstable=True),
    ),
    variants={_FREE: _ON_PROXY}
    | {f"{_FREE}_{name}": (*_ON_PROXY, leash) for name, leash in settings.LEASHES.items()},
)
