"""Names of policies after several rounds: `dpo`, `dpo_round2`, `dpo_round3`."""

import re
from collections.abc import Iterable

_SPELLED = {
    "diffusion_nft": "DiffusionNFT",
    "mcdpo": "McDPO",
    "mcsc": "McSc",
    "realdpo": "RealDPO",
    "vader": "VADER",
    "videoalign": "VideoAlign",
    **{f"flow_{name}": f"Flow-{name.upper()}" for name in ("sft", "rwr", "dpo", "grpo", "nrg")},
}
_ROUND = re.compile(r"(?P<method>.+)_round(?P<round>[2-9]|[1-9]\d+)")


def split_round(policy: str) -> tuple[str, int]:
    """Returns the method and the round of a policy's name: `dpo_round2` is `("dpo", 2)`."""
    match = _ROUND.fullmatch(policy)
    return (match["method"], int(match["round"])) if match else (policy, 1)


def by_method(policies: Iterable[str], baseline: str) -> dict[str, list[str]]:
    """Returns for each method its policies, first round first, without the baseline."""
    methods: dict[str, list[str]] = {}
    for policy in policies:
        if policy != baseline:
            methods.setdefault(split_round(policy)[0], []).append(policy)
    return {m: sorted(names, key=lambda n: split_round(n)[1]) for m, names in methods.items()}


def title(policy: str) -> str:
    """Returns a policy's name for readers: `dpo_round2` is "DPO, round 2"."""
    method, number = split_round(policy)
    short = method.upper() if len(method) <= 4 else method.replace("_", " ")
    name = _SPELLED.get(method, short)
    return name if number == 1 else f"{name}, round {number}"
