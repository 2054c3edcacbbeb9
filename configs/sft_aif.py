"""SFT on the generator's own samples, no reward signal: AIF's baseline.

Command:  python launch/tpu_run.py --config=sft_aif:mini --workdir=runs/sft
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3 (AIF appendix A).
"""

from configs.shared import aif

PAPER = aif.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = aif.base(scale)
    c.align.method, c.align.rows = "sft", "all"
    if scale == "mini":
        rate = "align.train.optimizer.learning_rate"
        c.search = (f"{rate}=1e-3", f"{rate}=3e-4")
    return c
