"""Supervised fine-tuning on the preferred clips, the baseline of VideoAlign (section 5.2).

Paper:    VideoAlign, "Improving Video Generation with Human Feedback"
Command:  python launch/tpu_run.py --config=flow_sft:mini --workdir=runs/flow_sft
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, expected: 3 to 4 minutes.
Number:   mini, measured over five seeds: accepted clips of held-out prompts 24.4 -> 33.5 %;
          Flow-DPO's lead is 0.0 points [-2.9, 2.9] (docs/claims.md).
"""

from configs.shared import aif, flow

PAPER = flow.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = flow.base(scale)
    c.align.method, c.align.policy = "sft", "flow_sft"
    c.align.rows = "winners"  # of the pairs; or real, which are clips of the data set
    if scale == "mini":
        c.align.train.optimizer.learning_rate = 1.5e-2
        c.search = aif.rates("1.5e-2", "5e-4", "1.5e-3", "5e-3")
    return c
