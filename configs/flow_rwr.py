"""Flow-RWR: velocity errors weighted by exp(r / beta) (VideoAlign eq. 9).

Paper:    VideoAlign, "Improving Video Generation with Human Feedback"
Command:  python launch/tpu_run.py --config=flow_rwr:mini --workdir=runs/flow_rwr
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, expected: 3 to 4 minutes.
Number:   mini, measured over five seeds: accepted clips of held-out prompts 24.4 -> 29.0 %;
          Flow-DPO gains 4.5 points [2.9, 6.1] more (docs/claims.md).
"""

from configs.shared import aif, flow

PAPER = flow.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = flow.base(scale)
    c.align.method = "flow_rwr"
    c.align.beta = 1.0
    c.align.rows = "all"
    c.align.normalize_reward = True  # the weights are not, so that r has mean 0 and deviation 1
    if scale == "mini":
        c.align.train.optimizer.learning_rate = 5e-3
        c.search = aif.rates("5e-3", "5e-4", "1.5e-3", "1.5e-2")
    return c
