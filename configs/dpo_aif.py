"""Diffusion-DPO on accepted/rejected pairs, AIF's reverse-BT projection (eq. 7).

Command:  python launch/tpu_run.py --config=dpo_aif:mini --workdir=runs/dpo
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3 (AIF appendix A).
"""

from configs.shared import aif

PAPER = aif.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = aif.base(scale)
    c.align.method = "dpo"
    c.align.beta = 5000.0  # with the mean reduction (AIF appendix A; Wallace et al.)
    c.align.nll_weight = 0.0
    c.align.pairs = "accepted_rejected"  # or best_worst
    c.align.max_pairs_per_prompt = 8
    return c
