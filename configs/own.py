"""A folder of one's own videos, without a judge: its clips against samples, as RealDPO has it.

Paper:    "RealDPO: Real or Not Real, That Is the Preference", for the alignment
Command:  python launch/tpu_run.py --config=own:mini --workdir=runs/own --config.data.path=my_clips
          (README, "Your own videos"; with a judge, --config.reward.name=remote_judge scores the
          clips before and after)
Hardware: mini 2 CPU cores; paper 8 TPU chips, not run.
Time:     mini, expected: 10 minutes; one's own network and steps by --config.model,
          --config.pretrain.train.steps.
Number:   none: what the folder shows decides. Constants are those of `realdpo`.
"""

from configs import realdpo

PAPER = realdpo.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = realdpo.get_config(scale)
    c.expected_time = ""
    c.data.name = "video_folder"
    c.reward.name = "none"
    c.align.real_clips = 0  # all there are
    if scale == "mini":
        c.data.update({"height": 24, "width": 40, "high_height": 48, "high_width": 80})
        c.data.short = "hold"
        c.text.update({"length": 64, "truncate": True})
        c.sampler.batch_size = 64
    return c
