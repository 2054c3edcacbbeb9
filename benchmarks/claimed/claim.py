"""What a claim is, and which policies it is about.

A policy is named by its config and round, as `launch/compare.py` takes configs: "flow_dpo", the
variant "flow_dpo+align.time_power=2.0", "ipo_dpo@2" after the second round, or "pretrained".
"""

import dataclasses
from collections.abc import Mapping

from vidpref.evaluation.verdicts import Kind

PRETRAINED = "pretrained"
QUALITY = ("visual_quality", "motion_quality", "text_alignment")
# Camera motion is left out: it is nearly constant.
DIMENSIONS = ("accept", "visual_quality", "motion_quality", "object_motion", "text_alignment")
# What the judge that a policy learnt from says of its clips, where that was not the verifier.
PROXY = "proxy"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim about two policies.

    Attributes:
        text: what the paper says.
        paper: its numbers, and where they stand.
        policy, baseline: whose clips are compared, with the same prompts and noise.
        primary: the dimension that decides.
        others: dimensions that are shown beside it.
        kind: what is claimed of the difference.
        split: of the prompts, "test" (held-out) or "train".
        unstable: about a collapse that some seeds see and others do not: the seeds' own values are
            shown, and there is no verdict.
    """

    text: str
    paper: str
    policy: str
    baseline: str
    primary: str = "accept"
    others: tuple[str, ...] = ()
    kind: Kind = Kind.SUPERIOR
    split: str = "test"
    unstable: bool = False


@dataclasses.dataclass(frozen=True)
class Group:
    """Configs that run together, and what is claimed about them.

    Attributes:
        configs: as `launch/compare.py` takes them, or names of `variants`.
        claims: about their policies.
        rounds: rounds of every config.
        overrides: of every config but the variants.
        variants: configs with a judge of their own, whose clips the verifier scores all the same:
            name, also of the policy -> (config, *overrides).
    """

    configs: tuple[str, ...]
    claims: tuple[Claim, ...]
    rounds: int = 1
    overrides: tuple[str, ...] = ()
    variants: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of prompts that its claims are about."""
        said = {claim.split for claim in self.claims}
        return tuple(split for split in ("test", "train") if split in said)


def after(config: str, round_: int) -> str:
    """Returns the name of a config's policy after a round."""
    return config if round_ == 1 else f"{config}@{round_}"
