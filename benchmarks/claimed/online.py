"""On-policy learning: fresh clips at every step against clips that were drawn once.

No table of the five papers has it. AIF's two projections and the methods that were made for fresh
clips learn from the same number of them a step, drawn by the policy as it is and judged at once.
RWR has positive weights alone, and learns its own mistakes with its clips: it is measured with the
error on real clips beside it too, and what those clips do alone.

On a proxy, motion quality alone, Flow-GRPO is measured free, held by the divergence from the
pre-trained policy, and held by the error on real clips in its place.
"""

from claimed.claim import PRETRAINED, QUALITY, Claim, Group
from claimed.settings import (
    FLOW_DPO,
    GRPO_KL,
    GRPO_ON_MOTION,
    GRPO_REAL,
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

_MOTION = ("motion_quality", "visual_quality", "text_alignment", "object_motion")
LEASHES = {
    "nothing": GRPO_ON_MOTION,
    "a reverse KL": GRPO_KL,
    "real clips": GRPO_REAL,
}
LEASH = Group(
    tuple(LEASHES.values()),
    (
        Claim(
            "Flow-GRPO on motion quality alone raises it",
            _OURS,
            GRPO_ON_MOTION,
            PRETRAINED,
            "motion_quality",
            ("accept", "visual_quality", "text_alignment", "object_motion"),
        ),
        Claim(
            "A reverse KL holds the truth",
            "the usual guard (Flow-GRPO)",
            GRPO_KL,
            GRPO_ON_MOTION,
            others=_MOTION,
        ),
        Claim(
            "A data term in its place holds it better",
            "less hacking than a reverse KL (DDRL)",
            GRPO_REAL,
            GRPO_KL,
            others=_MOTION,
        ),
        Claim(
            "The data term costs nothing of the proxy",
            "reward as high (DDRL)",
            GRPO_REAL,
            GRPO_ON_MOTION,
            "motion_quality",
            kind=Kind.NOT_INFERIOR,
        ),
    ),
    overrides=("align.online.watch=verifier",),
)
