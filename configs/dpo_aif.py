"""Diffusion-DPO on accepted/rejected pairs, AIF's reverse-BT projection (eq. 7).

Paper:    AIF, "Improving Dynamic Object Interactions in Text-to-Video Generation with AI Feedback"
Command:  python launch/tpu_run.py --config=dpo_aif:mini --workdir=runs/dpo
Hardware: mini 2 CPU cores; paper 128 cores of TPU v3 (AIF appendix A): its step was compiled for
          them (measured: 5.00 of 15.48 GiB a core, 5.99 for super-resolution), not run.
Time:     mini, measured: 6 min 54 s with the installation, 2 min 21 s on idle cores without.
Number:   mini, measured: accepted clips of held-out prompts 33.2 -> 52.5 %; over three seeds +18.9
          points [12.0, 25.8] (docs/measurements.md).
"""

from configs.shared import aif

PAPER = aif.PAPER
SCALES = ("mini", "paper")


def get_config(scale: str = "paper"):
    c = aif.base(scale)
    c.align.method, c.align.rows = "dpo", "pairs"
    c.align.beta = 5000.0  # with the mean reduction (AIF appendix A; Wallace et al.)
    c.align.pairs = "accepted_rejected"  # or best_worst
    c.align.max_pairs_per_prompt = 8
    if scale == "mini":
        # Without the winner's error both errors grow and acceptance falls, at every learning rate
        # that was tried (docs/measurements.md). At the start the pull of DPO on either clip is
        # beta / 4 = 1250 times its error, so 2500 keeps the winner ahead.
        c.align.nll_weight = 2500.0
        c.align.train.batch_size = 32
        c.align.train.optimizer.learning_rate = 3e-4
        rate = "align.train.optimizer.learning_rate"
        c.search = (
            f"align.nll_weight=2500.0 {rate}=3e-4",
            f"align.nll_weight=0.0 {rate}=1e-5",
        )
    return c
