"""RealDPO: real clips against samples, without and with the winner's error."""

from claimed.claim import PRETRAINED, QUALITY, Claim, Group
from claimed.settings import FLOW_DPO, REALDPO, REALDPO_WINNER, SFT_REAL

_STUDY = "in a user study (RealDPO Table 1)"

REALDPO_GROUP = Group(
    (REALDPO, REALDPO_WINNER, SFT_REAL, FLOW_DPO),
    (
        Claim(
            "RealDPO improves the generator",
            f"overall 73.3 against 65.6 {_STUDY}",
            REALDPO,
            PRETRAINED,
            others=QUALITY,
        ),
        Claim(
            "RealDPO beats SFT on the real clips",
            f"overall 73.3 against 58.2 {_STUDY}",
            REALDPO,
            SFT_REAL,
            others=QUALITY,
        ),
        Claim(
            "RealDPO beats DPO on clips that a judge labelled",
            f"overall 73.3 against 61.0 (VideoAlign) {_STUDY}",
            REALDPO,
            FLOW_DPO,
            others=QUALITY,
        ),
        Claim(
            "RealDPO with the winner's error beats SFT on the real clips",
            "ours: no paper has it",
            REALDPO_WINNER,
            SFT_REAL,
            others=QUALITY,
        ),
        Claim(
            "RealDPO with the winner's error beats RealDPO",
            "ours: no paper has it",
            REALDPO_WINNER,
            REALDPO,
            others=QUALITY,
        ),
    ),
)
