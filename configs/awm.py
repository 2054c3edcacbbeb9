"""AWM: the denoising error of the policy's own clips, weighted by their advantage.

It is policy gradient with the pre-training loss in the place of a log-probability: clean clips are
all it looks at, so any sampler and any noise process will do.

Paper:    AWM, "Advantage Weighted Matching" (arXiv 2509.25050)
Command:  python launch/tpu_run.py --config=awm:mini --workdir=runs/awm
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, measured: under 4 CPU-minutes with evaluation, after pre-training.
Number:   mini, measured with five seeds: of the clips of held-out prompts 29.9 % are accepted, +5.5
          points [1.3, 9.7] over the pre-trained generator's (docs/claims.md).
"""

from configs import flow_grpo
from configs.shared import aif

PAPER = "Advantage Weighted Matching: Aligning RL with Pretraining in Diffusion Models"
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = flow_grpo.get_config(scale)
    c.paper = PAPER
    c.align.method = "awm"
    c.align.train.optimizer.learning_rate = 3e-4
    if scale == "mini":
        c.search = aif.rates("3e-4", "1e-3", "3e-3")
    return c
