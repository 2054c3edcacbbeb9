"""DiffusionNFT: clips drawn by the old policy, the good ones a target and the bad ones its mirror.

Clean clips are all it looks at, so any sampler and any noise process will do. The public code can
also hold the policy to the pre-trained one by a divergence, which is not here; and the decay with
which the old policy follows is one number here, not tuned.

Paper:    DiffusionNFT, "Online Diffusion Reinforcement with Forward Process" (arXiv 2509.16117)
Command:  python launch/tpu_run.py --config=diffusion_nft:mini --workdir=runs/diffusion_nft
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, measured: under 4 CPU-minutes with evaluation, after pre-training.
Number:   mini, measured with seed 0: accepted clips of held-out prompts 23.5 -> 38.5 %, +15.0
          points [11.1, 18.9] over prompts; of train prompts 36.1 -> 58.4 %. Other seeds are not
          measured.
"""

from configs import flow_grpo

PAPER = "DiffusionNFT: Online Diffusion Reinforcement with Forward Process"
SCALES = flow_grpo.SCALES


def get_config(scale: str = "paper"):
    c = flow_grpo.get_config(scale)
    c.paper = PAPER
    c.align.method = "diffusion_nft"
    # as the public code: the error of the clean clip, which is divided by its own root
    c.align.beta, c.align.error_in = 1.0, "x0"
    c.align.train.reference_decay = 0.5
    c.align.train.optimizer.learning_rate = 3e-4
    if scale == "mini":
        c.align.train.optimizer.learning_rate = 1e-3
    return c
