"""How firmly a preference loss holds the policy: `beta` times the reference's error of the winner.

DPO sees the difference of two errors only, so both may grow together ("drift"). The push ends where
the sigmoid lets go of a pair, at a difference d_l - d_w of about 8 / beta. That is a share of
8 / leash of the reference's own error: with a leash of 6 the errors are pushed until they have more
than doubled, with one of 80 until they differ by a tenth. `saturation` says how far along that way
a run is, the leash how long the way is.
"""

from collections.abc import Mapping

# Logits, by noise process; 800 validation clips (docs/measurements.md, "The leash"). DDPM:
# `dpo_aif:mini` at a rate of 3e-5, with a leash of 3 and 16 (errors of v) and of 7 (x0), accepted
# 20, 26 and 37 %, with one of 13, 26 and 66 (x0) and of 47 (v) 70, 73, 71 and 64 %. Rectified flow:
# with one of 0.6, 1.7, 5.5 and 55 adapters of `flow_dpo:mini` accepted 15, 42, 48 and 45 %, with
# one of 1.1, 5.5 and 22 the whole network of `ipo_dpo:mini` 22, 60 and 53 %.
LEASHES = {"ddpm": 20.0, "flow": 3.0}
_WARNED = ("dpo", "mcdpo")  # where that was measured; KTO also holds by the weights of its classes


def leash_warning(
    objective: str, hyper: Mapping[str, object], leash: float, process: str = "ddpm"
) -> str:
    """Returns what to say to the user of a leash that is too weak; "" where there is nothing.

    The winner's error in the loss (`nll_weight`) is a leash of its own: no warning beside it.

    Args:
        objective: name in `OBJECTIVES`.
        hyper: the objective's hyper-parameters.
        leash: mean of the metric of this name, over some steps.
        process: name in `LEASHES` of the noise process.
    """
    least = LEASHES[process]
    if objective not in _WARNED or hyper.get("nll_weight") or leash >= least:
        return ""
    return (
        f"the leash, align.beta times the reference's error of the winner, is {leash:.3g}, below "
        f"{least:g}: the loss may let the errors of winner and loser grow together, and clips get "
        "worse while pairs are told apart. Raise align.beta, measure the error where it is larger "
        "(align.error_in, such as eps or v instead of x0), or add the winner's error "
        "(align.nll_weight)."
    )
