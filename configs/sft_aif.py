"""SFT on the generator's own samples, no reward signal: AIF's baseline.

Paper:    AIF, "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback"
Command:  python launch/tpu_run.py --config=sft_aif:mini --workdir=runs/sft
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3 (AIF appendix A), not run.
Time:     mini, expected: about 6 minutes.
Number:   mini, measured with two seeds: accepted clips of held-out prompts +3.4 points
          [-20.9, 27.6] (docs/claims.md).
"""

from configs.shared import aif

PAPER = aif.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = aif.base(scale)
    c.align.method, c.align.rows = "sft", "all"
    if scale == "mini":
        c.search = aif.rates("1e-3", "1e-4", "3e-4", "3e-3")
    return c
