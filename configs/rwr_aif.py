"""Reward-weighted regression, AIF's forward-EM projection (eq. 6).

Paper:    AIF, "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback"
Command:  python launch/tpu_run.py --config=rwr_aif:mini --workdir=runs/rwr
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3 (AIF appendix A), not run.
Time:     mini, expected: about 6 minutes.
Number:   mini, measured with four seeds: accepted clips of held-out prompts +17.2 points
          [14.2, 20.3] (docs/claims.md).
"""

from configs.shared import aif

PAPER = aif.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = aif.base(scale)
    c.align.method, c.align.rows = "rwr", "all"
    c.align.eta, c.align.gamma = 1.0, 0.0  # r_lin = eta r + gamma, section 3.2
    if scale == "mini":
        c.search = aif.rates("1e-3", "1e-4", "3e-4", "3e-3")
    return c
