"""Flow-DPO on pairs of generated clips (VideoAlign eq. 6).

--config.align.time_power=2 is the paper's beta (1 - tau)^2, 0 its constant beta.

Paper:    VideoAlign, "Improving Video Generation with Human Feedback"
Command:  python launch/tpu_run.py --config=flow_dpo:mini --workdir=runs/flow_dpo
          python launch/tpu_run.py --config=flow_dpo:wan2_1_1_3b --workdir=runs/wan
          --config.model.init=Wan2.1-T2V-1.3B-Diffusers --config.data.pairs=pairs.csv
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3, not run; wan2_1_1_3b 128 chips of TPU v5e
          (compiled for them, measured: 6.99 GiB a chip, not run); wan2_1_14b and wan2_1_i2v_14b 64
          chips of TPU v5p (compiled, measured: 53.1 and 53.6 GiB a chip, not run).
Time:     mini, expected: 3 to 4 minutes.
Number:   mini, measured over five seeds on held-out prompts: accepted clips 24.4 -> 33.6 %, +9.1
          points [7.6, 10.7]; text alignment +5.5 [5.0, 5.9], visual quality +3.0 [2.3, 3.7], motion
          quality +3.8 [1.8, 5.8] (docs/claims.md).
"""

from configs.shared import aif, backbones, flow

PAPER = flow.PAPER
SCALES = ("mini", "paper", "wan2_1_1_3b", "wan2_1_14b", "wan2_1_i2v_14b")


def get_config(scale: str = "paper"):
    c = flow.base(scale)
    c.align.method, c.align.policy = "dpo", "flow_dpo"
    # VideoAlign's text has beta 500 with squared norms, that is sums; here it goes with the mean
    # over a clip, as the 100 of public code of Flow-DPO does (flow_grpo). The 1/2 is in both.
    c.align.beta = 500.0
    c.align.time_power = 0.0
    if scale in backbones.NAMES:
        c.align.rows = "preferred"
        return c
    c.align.rows = "pairs"
    if scale == "mini":
        c.align.train.batch_size = 32
        c.align.train.optimizer.learning_rate = 3e-4
        c.search = aif.rates("3e-4", "1e-4", "1e-3", "3e-3")
    return c
