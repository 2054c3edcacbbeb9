"""RealDPO: real clips against samples of the reference, which follows the policy (eq. 6-7).

Paper:    "RealDPO: Real or Not Real, That Is the Preference"
Command:  python launch/tpu_run.py --config=realdpo:mini --workdir=runs/realdpo
          python launch/tpu_run.py --config=realdpo:cogvideox_5b_i2v --workdir=runs/cog
          --config.model.init=CogVideoX-5b-I2V --config.data.pairs=RealAction
Hardware: mini 2 CPU cores; paper 8 TPU chips, a prompt each (the paper: 8 H100), not run;
          cogvideox_5b_i2v 8 chips of TPU v5p (compiled for them, measured: 54.5 GiB a chip, not
          run).
Time:     mini, measured on two idle CPU cores: 2 min 15 s.
Number:   mini, measured over five seeds: accepted clips of held-out prompts 24.4 -> 39.2 %, +14.8
          points [11.6, 18.0]; SFT on the same real clips 75.1 % (docs/claims.md).
"""

from configs.shared import aif, backbones, flow

PAPER = "RealDPO: Real or Not Real, That Is the Preference"
SCALES = ("mini", "paper", "cogvideox_5b_i2v")

SEARCH = (
    f"align.time_range=(0.0,0.5) {aif.RATE}=3e-5",
    f"align.time_range=(0.0,0.5) {aif.RATE}=1e-4",
    f"align.time_range=(0.0,1.0) {aif.RATE}=3e-5",
    f"align.time_range=(0.0,1.0) {aif.RATE}=1e-4",
)


def get_config(scale: str = "paper"):
    c = flow.base(scale)
    c.paper = PAPER
    c.align.method, c.align.policy = "dpo", "realdpo"
    # Of the paper's code: x0 errors divided by 1 - abar, which are those of v (of the velocity, for
    # rectified flow); its beta; its times, the half next to the clip.
    c.align.beta = 5000.0
    c.align.time_range = (0.0, 0.5)
    c.align.losers = 3
    # The paper's 0.996 goes with a number of steps that it does not print. Its code moves the
    # reference every 100 steps, by 0.999; at every step 0.996 is some 400 times faster.
    c.align.train.reference_decay = 0.996
    c.align.train.reference_every = 100
    c.align.lora.rank = 0
    c.align.train.optimizer.learning_rate = 1e-5
    if scale != "mini":
        c.mesh.update({"fsdp": 8, "context": 1})
        c.pretrain.train.accumulate = 2  # 8 clips a chip are 2 GiB more than a v5e has
        c.align.train.batch_size = 8
    if scale in backbones.NAMES:
        c.align.rows = "preferred_and_losers"  # the losers lie in the data set's folder
        c.align.reward.real = 1.0
        return c
    c.align.rows = "real_and_samples"
    if scale == "mini":
        c.align.real_clips = 1000
        c.align.train.batch_size = 16
        c.align.train.optimizer.learning_rate = 3e-5
        c.search = SEARCH
    return c
