"""Flow-GRPO: learns from the steps of its own sampler, a group of clips a prompt, judged at once.

--config.align.online.noise=dance_grpo --config.align.online.level=0.25 is DanceGRPO's noise, a
shorter --config.align.online.window with --config.align.online.slide MixGRPO's window, and
--config.align.real_weight=W holds the policy to real clips in the place of its reference (DDRL).

`wan2_1_1_3b` trains adapters of Wan2.1 on clips for the prompts of data.pairs, as a VideoReward
judges them once they are decoded; its steps follow the flow in the first order, also where
config.sampler does not.

Paper:    Flow-GRPO, "Training Flow Matching Models via Online RL" (arXiv 2505.05470)
Command:  python launch/tpu_run.py --config=flow_grpo:mini --workdir=runs/flow_grpo
          python launch/tpu_run.py --config=flow_grpo:wan2_1_1_3b --workdir=runs/grpo-wan
          --config.model.init=Wan2.1-T2V-1.3B-Diffusers --config.data.pairs=pairs.csv
          --config.reward.video_reward.folder=VideoReward
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run; wan2_1_1_3b 64 chips of TPU v5p
          (compiled for them, measured: 14.25 GiB a chip where it learns, 4.20 where it draws).
Time:     mini, measured: 3.5 CPU-seconds a step, so 6 CPU-minutes of training; wan2_1_1_3b, by the
          roofline 425 s a step and more, half of it drawing (docs/measurements.md).
Number:   mini, measured with five seeds: of the clips of held-out prompts 36.7 % are accepted,
          +12.3 points [5.6, 19.0] over the pre-trained generator's; seeds end between 27 and 42 %
          (docs/claims.md).
"""

from configs.shared import aif, backbones, flow

PAPER = "Flow-GRPO: Training Flow Matching Models via Online RL"
SCALES = ("mini", "paper", "wan2_1_1_3b")
JUDGED = ("overall", *flow.OVERALL)


def get_config(scale: str = "paper"):
    c = flow.base(scale)
    c.paper = PAPER
    c.align.method, c.align.rows = "flow_grpo", "fresh"
    # Of the public code: its noise, its clip of the ratio and of the advantage. It draws in fewer
    # steps than its evaluation does; here both take those of config.sampler.
    c.align.online.noise, c.align.online.level = "flow_grpo", 0.7
    c.align.online.clip, c.align.online.largest = 1e-4, 5.0
    c.align.online.group, c.align.online.window = 8, (0, 4)
    c.align.train.optimizer.learning_rate = 1e-4
    if scale in backbones.NAMES:
        c.reward.update({"name": "video_reward", "dimension": "overall", "dimensions": JUDGED})
        c.reward.video_reward.fps = 16.0
        c.sampler.steps = 20  # clips are drawn at every step
        c.evaluate.best_of = ()  # of a prompt there is one clip to compare
        c.align.train.update({"batch_size": 64, "steps": 500, "checkpoint_every": 50})
        return c
    if scale == "mini":
        c.align.train.batch_size = 8
        c.align.train.optimizer.update({"learning_rate": 1e-3, "decay": "constant"})
        c.search = aif.rates("1e-3", "2e-3", "5e-3")
        c.align.train.steps = 100
    return c
