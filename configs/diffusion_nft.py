"""DiffusionNFT: clips drawn by the old policy, the good ones a target and the bad ones its mirror.

Clean clips are all it looks at, so any sampler and any noise process will do. The old policy is the
one in training at first and slows down: at `paper` scale its decay rises by 0.001 a step up to 0.5,
as in the public code, whose other schedule is --config.align.train.reference_decay=0.999
--config.align.train.reference_rise=0.0075 --config.align.train.reference_flat=75. How far the two
have come from the pre-trained policy is in the metrics; --config.align.online.kl=1e-4, the public
code's, holds the policy to it.

Paper:    DiffusionNFT, "Online Diffusion Reinforcement with Forward Process" (arXiv 2509.16117)
Command:  python launch/tpu_run.py --config=diffusion_nft:mini --workdir=runs/diffusion_nft
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, measured: under 4 CPU-minutes with evaluation, after pre-training.
Number:   mini, measured with five seeds: accepted clips of held-out prompts 24.4 -> 40.4 %, +16.0
          points [12.4, 19.6] (docs/claims.md).
"""

from configs import flow_grpo
from configs.shared import aif

PAPER = "DiffusionNFT: Online Diffusion Reinforcement with Forward Process"
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = flow_grpo.get_config(scale)
    c.paper = PAPER
    c.align.method = "diffusion_nft"
    # as the public code: the error of the clean clip, which is divided by its own root
    c.align.beta, c.align.error_in = 1.0, "x0"
    c.align.train.reference_decay, c.align.train.reference_rise = 0.5, 0.001
    c.align.train.optimizer.learning_rate = 3e-4
    if scale == "mini":
        c.align.train.reference_rise = 0.0  # 100 steps would end at 0.1; the number is of 0.5
        c.align.train.optimizer.learning_rate = 1e-3
        c.search = aif.rates("1e-3", "3e-4", "3e-3")
    return c
