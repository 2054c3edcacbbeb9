"""Diffusion-DPO plus the winner's error: the alternative to plain DPO, which is `dpo_aif`.

Paper:    none for video; the likelihood of the winner beside DPO is in Pang et al. 2024, "Iterative
          Reasoning Preference Optimization", and in IPO's eq. 9. All else is AIF's eq. 7.
Command:  python launch/tpu_run.py --config=dpo_nll_aif:mini --workdir=runs/dpo_nll
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, expected: as `dpo_aif`.
Number:   mini, measured with two seeds: accepted clips of held-out prompts +22.8 points
          [17.6, 28.0] after a round; further rounds lose it again (docs/claims.md).
"""

from configs import dpo_aif
from configs.shared import aif

PAPER = dpo_aif.PAPER
SCALES = ("mini", "paper")

SEARCH = (
    f"align.nll_weight=2500.0 {aif.RATE}=3e-4",
    f"align.nll_weight=2500.0 {aif.RATE}=1e-4",
    f"align.nll_weight=2500.0 {aif.RATE}=1e-3",
    f"align.nll_weight=5000.0 {aif.RATE}=3e-4",
)


def get_config(scale: str = "paper"):
    c = dpo_aif.get_config(scale)
    c.align.policy = "dpo_nll"
    # At the start the pull of DPO on either clip is beta / 4 = 1250 times its error, so 2500 keeps
    # the winner's error falling. It also bounds it, so that x0 errors, which beta hardly holds,
    # can be used.
    c.align.nll_weight = 2500.0
    if scale == "mini":
        c.align.error_in = "x0"
        c.align.train.optimizer.learning_rate = 3e-4
        c.search = SEARCH
    return c
