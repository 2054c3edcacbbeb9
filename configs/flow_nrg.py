"""Flow-NRG: sampling guided by a latent reward model; no generator is trained (VideoAlign 4.4).

Paper:    VideoAlign, "Improving Video Generation with Human Feedback"
Command:  python launch/tpu_run.py --config=flow_nrg:mini --workdir=runs/flow_nrg
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run.
Time:     mini, expected: about 4 minutes.
Number:   mini, measured over five seeds: with all weight on text alignment that gains 4.4 points
          [3.7, 5.1], and accepted clips of held-out prompts 24.4 -> 30.4 % (docs/claims.md).
"""

from configs.shared import flow

PAPER = flow.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = flow.base(scale)
    c.align.method, c.align.policy = "nrg", "flow_nrg"
    c.align.dimensions = tuple(flow.OVERALL)
    c.align.weights.update(flow.OVERALL)
    c.align.scale = 100.0
    c.align.guide_at = "noise"  # or clean: the reward of the predicted clean clip
    c.align.noise_aware = True  # False trains the reward on clean clips alone
    c.align.layers = 8
    c.align.pairs_per_prompt = 64
    if scale == "mini":
        c.expected_time = "about 4 minutes on 2 CPU cores"
        c.align.layers = 4
        c.align.pairs_per_prompt = 28
        c.align.scale = 1.0
        c.align.train.steps = 400
        c.align.train.optimizer.learning_rate = 5e-4
    return c
